package yamlconf

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// fields are the settable fields of a struct by their key in YAML.
type fields map[string]reflect.Value

// fieldsOf reads the yaml tags as yaml.v3 does: a name, "-" for none, and
// ",inline" for a struct whose keys stand one level up. Without a tag the name is
// the field's in lower case.
func fieldsOf(structure reflect.Value) fields {
	found := fields{}
	for i := range structure.NumField() {
		field := structure.Type().Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if !field.IsExported() || name == "-" {
			continue
		}
		if options == "inline" {
			if field.Type.Kind() == reflect.Struct {
				maps.Copy(found, fieldsOf(structure.Field(i)))
			}
			continue
		}
		if name == "" {
			name = strings.ToLower(field.Name)
		}
		found[name] = structure.Field(i)
	}
	return found
}

// names lists the keys for a message.
func (f fields) names() string { return strings.Join(slices.Sorted(maps.Keys(f)), ", ") }
