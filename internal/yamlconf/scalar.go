package yamlconf

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strconv"
)

// Set sets one value from text, exactly as a file's scalar would be: a flag that
// calls it takes and refuses the same. into points to a string, a boolean, a
// number or an encoding.TextUnmarshaler.
func Set(text string, into any) error { return setText(text, reflect.ValueOf(into).Elem()) }

// isScalar tells whether a value is written as one word.
func isScalar(v reflect.Value) bool {
	if _, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return true
	}
	return v.Kind() == reflect.String || v.Kind() == reflect.Bool || v.CanInt() || v.CanUint() || v.CanFloat()
}

// setText sets a scalar from its text.
func setText(text string, to reflect.Value) error {
	if u, ok := to.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	switch {
	case to.Kind() == reflect.String:
		to.SetString(text)
		return nil
	case to.Kind() == reflect.Bool:
		return setBool(text, to)
	case to.CanInt():
		return setInt(text, to)
	case to.CanUint():
		return setUint(text, to)
	case to.CanFloat():
		return setFloat(text, to)
	default:
		panic("yamlconf: no text form of " + to.Type().String())
	}
}

func setBool(text string, to reflect.Value) error {
	if text != "true" && text != "false" {
		return fmt.Errorf("%s isn't a boolean; allowed: %s", clip(text), scalarName(to))
	}
	to.SetBool(text == "true")
	return nil
}

func setInt(text string, to reflect.Value) error {
	n, err := strconv.ParseInt(text, 10, to.Type().Bits())
	if err != nil {
		return fmt.Errorf("%s isn't a whole number; allowed: %s", clip(text), scalarName(to))
	}
	to.SetInt(n)
	return nil
}

func setUint(text string, to reflect.Value) error {
	n, err := strconv.ParseUint(text, 10, to.Type().Bits())
	if err != nil {
		return fmt.Errorf("%s isn't a whole number from 0 on; allowed: %s", clip(text), scalarName(to))
	}
	to.SetUint(n)
	return nil
}

func setFloat(text string, to reflect.Value) error {
	f, err := strconv.ParseFloat(text, to.Type().Bits())
	if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("%s isn't a number; allowed: %s", clip(text), scalarName(to))
	}
	to.SetFloat(f)
	return nil
}

// Allowed says what values of the type that into points to are like.
func Allowed(into any) string { return allowed(reflect.ValueOf(into).Elem()) }

func allowed(v reflect.Value) string {
	switch {
	case isScalar(v):
		return scalarName(v)
	case v.Kind() == reflect.Pointer:
		return allowed(newElement(v.Type().Elem()))
	case v.Kind() == reflect.Slice:
		return "a list, each element " + allowed(newElement(v.Type().Elem()))
	case v.Kind() == reflect.Map:
		return "a map of names, each value " + allowed(newElement(v.Type().Elem()))
	default:
		return "a map with the keys " + fieldsOf(v).names()
	}
}

// scalarName says what a scalar of this type may be.
func scalarName(v reflect.Value) string {
	if named, ok := v.Addr().Interface().(interface{ Allowed() string }); ok {
		return named.Allowed()
	}
	switch {
	case v.Kind() == reflect.Bool:
		return "true, false"
	case v.CanInt():
		return "a whole number such as 20"
	case v.CanUint():
		return "a whole number such as 20"
	case v.CanFloat():
		return "a number such as 0.01"
	default:
		return "a word"
	}
}
