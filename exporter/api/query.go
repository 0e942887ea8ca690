package api

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Bounds of a query; all parameters of an endpoint together are far shorter.
const (
	maxQuery     = 512
	maxParameter = 128
	maxName      = 64 // as much of a name as an error tells
)

// queryError says which parameter is wrong.
type queryError struct{ parameter, what string }

// Error returns what is wrong and what is allowed.
func (e *queryError) Error() string { return e.what }

// parameter is one that an endpoint takes, at most once.
type parameter struct {
	name, alias string // either; no alias if empty
	set         func(text string) (wrong string)
	required    bool
}

// argument is a parameter as it was given.
type argument struct{ name, text string }

// parseQuery takes the known parameters, each once, and nothing else.
func parseQuery(raw string, known []parameter) *queryError {
	given, err := splitQuery(raw)
	if err != nil {
		return err
	}
	for _, a := range given {
		if !slices.ContainsFunc(known, func(p parameter) bool { return p.is(a.name) }) {
			return &queryError{a.name, "unknown parameter; allowed: " + names(known)}
		}
	}
	for i := range known {
		if err := known[i].take(given); err != nil {
			return err
		}
	}
	return nil
}

// splitQuery undoes the URL encoding (as url.ParseQuery, which doesn't say what of it
// is wrong).
func splitQuery(raw string) (all []argument, wrong *queryError) {
	parts := strings.Split(raw, "&")
	if len(raw) > maxQuery {
		longest := slices.MaxFunc(parts, func(a, b string) int { return cmp.Compare(len(a), len(b)) })
		return nil, &queryError{nameOf(longest), fmt.Sprintf("the query is too long; allowed: %d characters", maxQuery)}
	}
	for _, part := range parts {
		if part == "" {
			continue
		}
		name, text, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			text, err = url.QueryUnescape(text)
		}
		if err != nil || strings.Contains(part, ";") {
			return nil, &queryError{nameOf(part), "not URL-encoded; allowed: name=value, parameters separated by &, other characters as %XX"}
		}
		if len(text) > maxParameter {
			return nil, &queryError{nameOf(part), fmt.Sprintf("the value is too long; allowed: %d characters", maxParameter)}
		}
		all = append(all, argument{name, text})
	}
	return all, nil
}

// nameOf is the name in a part of a query, as far as there is one.
func nameOf(part string) string {
	name, _, _ := strings.Cut(part, "=")
	return name[:min(len(name), maxName)]
}

func (p *parameter) is(name string) bool { return name == p.name || p.alias != "" && name == p.alias }

// take sets the parameter from what was given.
func (p *parameter) take(given []argument) *queryError {
	given = slices.DeleteFunc(slices.Clone(given), func(a argument) bool { return !p.is(a.name) })
	switch {
	case len(given) == 0 && p.required:
		return &queryError{p.name, "the parameter is missing"}
	case len(given) == 0:
		return nil
	case len(given) > 1 && given[0].name != given[1].name:
		return &queryError{given[1].name, fmt.Sprintf("the parameter is there as %s, too; allowed: one of both", given[0].name)}
	case len(given) > 1:
		return &queryError{given[1].name, "the parameter is there more than once; allowed: once"}
	}
	if wrong := p.set(given[0].text); wrong != "" {
		return &queryError{given[0].name, wrong}
	}
	return nil
}

// names lists the parameters for an error.
func names(known []parameter) string {
	if len(known) == 0 {
		return "none"
	}
	all := make([]string, len(known))
	for i := range known {
		all[i] = known[i].name
	}
	return strings.Join(all, ", ")
}
