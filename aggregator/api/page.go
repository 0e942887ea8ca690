package api

import (
	"maps"
	"net/url"
	"strconv"
)

// page is a part of a list.
type page struct{ offset, limit int }

func (p page) end() int { return p.offset + p.limit }

// The length of a top, and how far pages go.
const (
	defaultTop = 20
	maxTop     = 10_000
	maxOffset  = 1_000_000
)

// page reads limit and offset.
func (p *parameters) page(limit int) page {
	return page{limit: p.count("limit", limit, maxTop), offset: p.number("offset", 0, 0, maxOffset)}
}

// pageOf returns the part of a whole list.
func pageOf[T any](list []T, p page) []T {
	return list[min(p.offset, len(list)):min(p.end(), len(list))]
}

// next returns where the page after this one is. It is about the same time, also where
// the request was about the time until now.
func (p *parameters) next(path string, of page, about *period) string {
	values := maps.Clone(p.values)
	values.Set("offset", strconv.Itoa(of.end()))
	if about != nil && !values.Has("from") {
		values.Del("window")
		values.Set("from", instant(about.From))
		values.Set("to", instant(about.To))
	}
	return (&url.URL{Path: path, RawQuery: values.Encode()}).String()
}

// linker is an answer that may have a next page.
type linker interface{ next() string }
