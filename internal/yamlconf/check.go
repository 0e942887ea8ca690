package yamlconf

import (
	"reflect"
	"strings"

	"gopkg.in/yaml.v3"
)

// checkKeys refuses keys that a type has no field for, at any depth. What isn't of the
// type's form is left to the type's own decoder to refuse.
func (d *decoder) checkKeys(key string, node *yaml.Node, t reflect.Type) error {
	d.depth++
	defer func() { d.depth-- }()
	if d.depth > maxDepth {
		return d.errorf("", "nested too deeply; allowed: %d levels", maxDepth)
	}
	switch {
	case node.Kind == yaml.AliasNode:
		return d.checkKeys(key, node.Alias, t)
	case t.Kind() == reflect.Pointer:
		return d.checkKeys(key, node, t.Elem())
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		return d.checkElements(key, node, t.Elem())
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Struct && !hasFreeKeys(t):
		known := fieldsOf(reflect.New(t).Elem())
		return d.pairs(key, node, func(name, path string, child *yaml.Node) error {
			field, ok := known[name]
			if !ok {
				return d.errorf(path, "unknown key; allowed: %s", known.names())
			}
			return d.checkKeys(path, child, field.Type())
		})
	}
	return nil
}

func (d *decoder) checkElements(key string, node *yaml.Node, t reflect.Type) error {
	for i, child := range node.Content {
		if err := d.checkKeys(element(key, i), child, t); err != nil {
			return err
		}
	}
	return nil
}

// hasFreeKeys tells whether a struct keeps keys that it has no field for in a map.
func hasFreeKeys(t reflect.Type) bool {
	for i := range t.NumField() {
		_, options, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if options == "inline" && t.Field(i).Type.Kind() == reflect.Map {
			return true
		}
	}
	return false
}

// merged returns keys and values of a map in turn, those of maps that it merges by <<
// included where it hasn't the key itself.
func (d *decoder) merged(key string, node *yaml.Node) ([]*yaml.Node, error) {
	var own, from []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].ShortTag() != "!!merge" {
			own = append(own, node.Content[i], node.Content[i+1])
			continue
		}
		sources := []*yaml.Node{node.Content[i+1]}
		if sources[0].Kind == yaml.SequenceNode {
			sources = sources[0].Content
		}
		from = append(from, sources...)
	}
	for _, source := range from {
		var err error
		if own, err = d.merge(key, own, source); err != nil {
			return nil, err
		}
	}
	return own, nil
}

// merge appends the pairs of a map whose keys aren't there.
func (d *decoder) merge(key string, to []*yaml.Node, source *yaml.Node) ([]*yaml.Node, error) {
	d.depth++
	defer func() { d.depth-- }()
	if source.Kind == yaml.AliasNode {
		source = source.Alias
	}
	if source.Kind != yaml.MappingNode || d.depth > maxDepth {
		return nil, d.errorf(join(key, "<<"), "not a map to merge; allowed: an alias of a map, or a list of such")
	}
	content, err := d.merged(key, source)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool, len(to)/2)
	for i := 0; i < len(to); i += 2 {
		there[to[i].Value] = true
	}
	for i := 0; i < len(content); i += 2 {
		if d.left--; d.left < 0 {
			return nil, d.errorf(key, "too large when its aliases are expanded; allowed: %d values", maxNodes)
		}
		if !there[content[i].Value] {
			to = append(to, content[i], content[i+1])
		}
	}
	return to, nil
}
