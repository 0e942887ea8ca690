// Package yamlconf reads YAML configuration strictly: what isn't known isn't
// ignored, and every mistake is one line that names the file, the key and what
// is allowed there.
//
// It decodes into a struct that already holds the defaults, by the same yaml
// tags as gopkg.in/yaml.v3. A key that is absent, or empty, keeps its default; a
// list replaces its default as a whole. Types of their own implement
// encoding.TextUnmarshaler, with messages that end in "; allowed: ...".
package yamlconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// Error is one mistake in a configuration file.
type Error struct {
	File string
	Key  string // the path to the key, such as scrape_configs[2].job_name; empty for the file as a whole
	Err  error  // what is wrong, and what is allowed
}

// Error returns the mistake on one line.
func (e *Error) Error() string {
	what := strings.Join(strings.Fields(e.Err.Error()), " ")
	if e.Key == "" {
		return e.File + ": " + what
	}
	return e.File + ": " + e.Key + ": " + what
}

// Unwrap returns what is wrong.
func (e *Error) Unwrap() error { return e.Err }

// Defaulter is implemented by elements of lists and values of maps that have
// defaults of their own, since those can't be filled in beforehand.
type Defaulter interface{ SetDefaults() }

// Tolerant is implemented by structs that accept keys they have no field for, because
// a file that was written for another program may have them.
type Tolerant interface {
	// Ignore says whether an unknown key is accepted. Its value isn't looked at.
	Ignore(key, path string) bool
}

// Load reads a file and decodes it as Decode does.
func Load(file string, into any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return &Error{File: file, Err: fmt.Errorf("%w; allowed: a readable YAML file", err)}
	}
	return Decode(file, data, into)
}

// Decode decodes a YAML document into a struct that holds the defaults; into
// points to it. The file's name is for messages alone. Errors are of type
// *Error; after one, into may be partly written.
func Decode(file string, data []byte, into any) error {
	root, err := parse(data)
	if err != nil {
		return &Error{File: file, Err: err}
	}
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.Elem().Kind() != reflect.Struct {
		panic("yamlconf: Decode takes a pointer to a struct")
	}
	if root == nil {
		return nil
	}
	d := decoder{file: file, left: maxNodes}
	return d.value("", root, target.Elem())
}

// parse returns the only document's root node, nil if there is none.
func parse(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, syntaxError(err)
	}
	err = decoder.Decode(&second)
	if err == nil {
		return nil, errors.New("more than one document; allowed: one")
	}
	if !errors.Is(err, io.EOF) {
		return nil, syntaxError(err)
	}
	return document.Content[0], nil
}

func syntaxError(err error) error {
	return fmt.Errorf("%s; allowed: YAML", strings.TrimPrefix(err.Error(), "yaml: "))
}

// Aliases can make a small file immense, or endless: both bounds are on what a
// document expands to.
const (
	maxNodes = 1 << 20
	maxDepth = 64
)

// decoder walks one document.
type decoder struct {
	file  string
	left  int // how many more nodes may be visited
	depth int // of the node being visited
}

func (d *decoder) errorf(key, format string, args ...any) error {
	return &Error{File: d.file, Key: key, Err: fmt.Errorf(format, args...)}
}

// value decodes one node into a settable value.
func (d *decoder) value(key string, node *yaml.Node, to reflect.Value) error {
	d.depth++
	defer func() { d.depth-- }()
	if d.left--; d.left < 0 {
		return d.errorf(key, "too large when its aliases are expanded; allowed: %d values", maxNodes)
	}
	if d.depth > maxDepth {
		return d.errorf("", "nested too deeply; allowed: %d levels", maxDepth)
	}
	if node.Kind == yaml.AliasNode {
		return d.value(key, node.Alias, to)
	}
	if isNull(node) {
		return nil
	}
	if to.Kind() == reflect.Pointer {
		if to.IsNil() {
			to.Set(newElement(to.Type().Elem()).Addr())
		}
		return d.value(key, node, to.Elem())
	}
	if decodesItself(to) {
		return d.opaque(key, node, to)
	}
	if isScalar(to) {
		return d.scalar(key, node, to)
	}
	switch to.Kind() {
	case reflect.Struct:
		return d.structure(key, node, to)
	case reflect.Slice:
		return d.list(key, node, to)
	case reflect.Map:
		return d.mapping(key, node, to)
	default:
		return d.opaque(key, node, to)
	}
}

// scalar decodes a value that is written as one word.
func (d *decoder) scalar(key string, node *yaml.Node, to reflect.Value) error {
	if node.Kind != yaml.ScalarNode {
		return d.errorf(key, "%s; allowed: %s", kindName(node), scalarName(to))
	}
	if err := setText(node.Value, to); err != nil {
		return &Error{File: d.file, Key: key, Err: err}
	}
	return nil
}

// structure decodes a map whose keys are known.
func (d *decoder) structure(key string, node *yaml.Node, to reflect.Value) error {
	known := fieldsOf(to)
	if node.Kind != yaml.MappingNode {
		return d.errorf(key, "%s; allowed: a map with the keys %s", kindName(node), known.names())
	}
	return d.pairs(key, node, func(name, path string, child *yaml.Node) error {
		field, ok := known[name]
		if !ok {
			if tolerant, is := to.Addr().Interface().(Tolerant); is && tolerant.Ignore(name, path) {
				return nil
			}
			return d.errorf(path, "unknown key; allowed: %s", known.names())
		}
		return d.value(path, child, field)
	})
}

// mapping decodes a map whose keys are free.
func (d *decoder) mapping(key string, node *yaml.Node, to reflect.Value) error {
	if node.Kind != yaml.MappingNode {
		return d.errorf(key, "%s; allowed: a map", kindName(node))
	}
	made := reflect.MakeMapWithSize(to.Type(), len(node.Content)/2)
	err := d.pairs(key, node, func(name, path string, child *yaml.Node) error {
		mapKey := reflect.New(to.Type().Key()).Elem()
		if err := setText(name, mapKey); err != nil {
			return &Error{File: d.file, Key: path, Err: err}
		}
		element := newElement(to.Type().Elem())
		if err := d.value(path, child, element); err != nil {
			return err
		}
		made.SetMapIndex(mapKey, element)
		return nil
	})
	if err != nil {
		return err
	}
	to.Set(made)
	return nil
}

// pairs calls each for the keys of a map in order, none twice.
func (d *decoder) pairs(key string, node *yaml.Node, each func(name, path string, child *yaml.Node) error) error {
	content, err := d.merged(key, node)
	if err != nil {
		return err
	}
	seen := make(map[string]bool, len(content)/2)
	for i := 0; i+1 < len(content); i += 2 {
		name := content[i]
		if name.Kind != yaml.ScalarNode {
			return d.errorf(key, "a key is %s; allowed: a word", kindName(name))
		}
		path := join(key, name.Value)
		if seen[name.Value] {
			return d.errorf(path, "the key is there twice; allowed: once")
		}
		seen[name.Value] = true
		if err := each(name.Value, path, content[i+1]); err != nil {
			return err
		}
	}
	return nil
}

// list decodes a list, which replaces the default.
func (d *decoder) list(key string, node *yaml.Node, to reflect.Value) error {
	if node.Kind != yaml.SequenceNode {
		return d.errorf(key, "%s; allowed: a list", kindName(node))
	}
	made := reflect.MakeSlice(to.Type(), 0, len(node.Content))
	for i, child := range node.Content {
		path := element(key, i)
		if isNull(child) {
			return d.errorf(path, "empty; allowed: a value")
		}
		value := newElement(to.Type().Elem())
		if err := d.value(path, child, value); err != nil {
			return err
		}
		made = reflect.Append(made, value)
	}
	to.Set(made)
	return nil
}

// opaque leaves a value to yaml.v3: types that have a decoder of their own. Those
// would pass over unknown keys.
func (d *decoder) opaque(key string, node *yaml.Node, to reflect.Value) error {
	if err := d.checkKeys(key, node, to.Type()); err != nil {
		return err
	}
	if err := node.Decode(to.Addr().Interface()); err != nil {
		return &Error{File: d.file, Key: key, Err: errors.New(strings.TrimPrefix(err.Error(), "yaml: "))}
	}
	return nil
}

// newElement returns a new settable value with its own defaults.
func newElement(t reflect.Type) reflect.Value {
	element := reflect.New(t)
	if d, ok := element.Interface().(Defaulter); ok {
		d.SetDefaults()
	}
	return element.Elem()
}

// decodesItself tells whether a type has one of yaml's two decoding methods, or free
// keys beside its own. The older method is what Prometheus' own types have.
func decodesItself(v reflect.Value) bool {
	if v.Kind() == reflect.Struct && hasFreeKeys(v.Type()) {
		return true
	}
	switch v.Addr().Interface().(type) {
	case yaml.Unmarshaler, interface{ UnmarshalYAML(func(any) error) error }:
		return true
	}
	return false
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

func kindName(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	default:
		return clip(node.Value)
	}
}

// join appends a key to a path, quoted where it would break the line or the path.
func join(path, key string) string {
	if key == "" || strings.ContainsFunc(key, isOdd) {
		key = clip(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// element appends an index to a path.
func element(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

func isOdd(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`.[]:"`, r) }

// maxShown bounds how much of a wrong value a message repeats.
const maxShown = 64

// clip quotes a wrong value for a message, shortened.
func clip(s string) string {
	if len(s) > maxShown {
		return strconv.Quote(strings.ToValidUTF8(s[:maxShown], "")) + "..."
	}
	return strconv.Quote(s)
}
