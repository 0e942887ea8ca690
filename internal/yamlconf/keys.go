package yamlconf

import (
	"fmt"
	"reflect"
	"strings"
)

// Key is a key that a file may have, for its documentation.
type Key struct {
	Path    string // such as scrape_configs[].job_name
	Default string // as a file spells it; empty for none
	Allowed string // by its type
	Help    string // the field's tag of that name
}

// Keys lists the keys of a configuration that aren't maps with known keys, or lists of
// such, themselves. The configuration is a pointer to a struct that holds the defaults.
func Keys(configuration any) []Key { return keysOf("", reflect.ValueOf(configuration).Elem()) }

// keysOf lists the keys of a struct, in the order of its fields.
func keysOf(path string, structure reflect.Value) (keys []Key) {
	known := fieldsOf(structure)
	for i := range structure.NumField() {
		field := structure.Type().Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		value, ok := known[name]
		if !ok {
			continue
		}
		keys = append(keys, keysAt(join(path, name), field.Tag.Get("help"), value)...)
	}
	return keys
}

func keysAt(path, help string, v reflect.Value) []Key {
	if v.Kind() == reflect.Slice && !isScalar(v) {
		if element := newElement(v.Type().Elem()); element.Kind() == reflect.Struct && !isScalar(element) {
			return keysOf(path+"[]", element)
		}
	}
	if v.Kind() == reflect.Struct && !isScalar(v) {
		return keysOf(path, v)
	}
	return []Key{{path, text(v), allowed(v), help}}
}

// text returns a value as a file spells it.
func text(v reflect.Value) string {
	if v.Kind() != reflect.Slice || isScalar(v) {
		if v.IsZero() {
			return ""
		}
		return fmt.Sprint(v.Interface())
	}
	var elements []string
	for i := range v.Len() {
		elements = append(elements, text(v.Index(i)))
	}
	return strings.Join(elements, ", ")
}
