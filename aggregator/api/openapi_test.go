package api

import (
	"encoding/csv"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// document is docs/openapi.yaml, once it was found to be valid, its examples too.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromFile("../../docs/openapi.yaml")
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(loader.Context, openapi3.EnableExamplesValidation())
})

func documented(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// hold holds a response to the document.
func hold(t *testing.T, target string, status int, header http.Header, body string) {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	item := documented(t).Paths.Value(u.Path)
	response := documented(t).Components.Responses["error"].Value
	if item != nil && status == http.StatusOK {
		response = item.Get.Responses.Status(status).Value
	}
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	content := response.Content[kind]
	if err != nil || content == nil {
		t.Errorf("%s is %q, which isn't documented", target, kind)
		return
	}
	if kind == "text/csv" {
		holdTable(t, target, content, body)
		return
	}
	holdJSON(t, target, content.Schema.Value, body)
}

func holdJSON(t *testing.T, what string, schema *openapi3.Schema, body string) {
	t.Helper()
	var value any
	if err := json.Unmarshal([]byte(body), &value); err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if err := schema.VisitJSON(value, openapi3.EnableFormatValidation()); err != nil {
		t.Errorf("%s isn't as documented: %v\n%s", what, err, body)
	}
}

// holdTable holds a table to the header of the example, but for its names.
func holdTable(t *testing.T, target string, content *openapi3.MediaType, body string) {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	if err != nil || len(rows) == 0 {
		t.Errorf("%s isn't CSV: %v\n%s", target, err, body)
		return
	}
	example, _, _ := strings.Cut(content.Example.(string), "\r\n")
	values := strings.Split(example, ",")
	at := max(0, slices.Index(values, "bytes"))
	if got := strings.Join(rows[0], ","); !strings.HasSuffix(got, strings.Join(values[at:], ",")) {
		t.Errorf("%s has the columns %s, documented are %s", target, got, example)
	}
}

// Each path takes the parameters that are documented, and no others; each of the numbers
// and words that are documented as allowed is, and what is beyond isn't.
func TestDocumentedParameters(t *testing.T) {
	f := newFixture()
	for path, item := range documented(t).Paths.Map() {
		names := make(map[string]bool)
		for _, parameter := range item.Get.Parameters {
			names[parameter.Value.Name] = true
			if path != "/v1/stream" {
				checkSchema(t, f, path, parameter.Value)
			}
		}
		taken := make(map[string]bool)
		for _, query := range append([]string{""}, streamed...) {
			target := path + "?nonsense=1"
			if path == "/v1/stream" && query != "" {
				target += "&query=" + query
			} else if query != "" {
				continue
			}
			_, body := f.get(t, target)
			var refused refusal
			if err := json.Unmarshal([]byte(body), &refused); err != nil || refused.Parameter != "nonsense" {
				t.Errorf("%s: %s", target, body)
			}
			_, allowed, _ := strings.Cut(refused.Error, "allowed: ")
			for name := range strings.SplitSeq(allowed, ", ") {
				taken[name] = name != ""
			}
		}
		delete(taken, "")
		if !maps.Equal(names, taken) {
			t.Errorf("%s: documented are %v, taken %v", path, slices.Sorted(maps.Keys(names)), slices.Sorted(maps.Keys(taken)))
		}
	}
}

func checkSchema(t *testing.T, f *fixture, path string, parameter *openapi3.Parameter) {
	t.Helper()
	schema := parameter.Schema.Value
	try := func(value string, want int) {
		t.Helper()
		target := path + "?" + parameter.Name + "=" + url.QueryEscape(value)
		if status, body := f.get(t, target); status != want {
			t.Errorf("%s: %d %s, want %d", target, status, body, want)
		}
	}
	for _, word := range schema.Enum {
		try(word.(string), http.StatusOK)
	}
	if len(schema.Enum) > 0 {
		try("nonsense", http.StatusBadRequest)
	}
	for bound, beyond := range map[*float64]float64{schema.Min: -1, schema.Max: 1} {
		if bound != nil {
			try(strconv.FormatFloat(*bound, 'f', -1, 64), http.StatusOK)
			try(strconv.FormatFloat(*bound+beyond, 'f', -1, 64), http.StatusBadRequest)
		}
	}
	if text, ok := parameter.Example.(string); ok && parameter.Name != "from" && parameter.Name != "to" {
		try(text, http.StatusOK)
	}
}
