package api

import (
	"bytes"
	"encoding/csv"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// table is an answer in rows, as RFC 4180 has it: a header line, then one line each.
type table struct {
	header []string
	rows   [][]string
}

// tabular is an answer that can be a table.
type tabular interface{ table() table }

func (t *table) encode() ([]byte, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.UseCRLF = true
	if err := w.Write(t.header); err != nil {
		return nil, err
	}
	err := w.WriteAll(t.rows)
	return b.Bytes(), err
}

// asCSV says whether a request wants a table: by format, else by what it accepts.
func (p *parameters) asCSV(r *http.Request) bool {
	if _, given := p.get("format"); given {
		return p.choice("format", "json", "csv") == "csv"
	}
	for _, accepted := range strings.Split(r.Header.Get("Accept"), ",") {
		kind, _, _ := strings.Cut(accepted, ";")
		switch strings.TrimSpace(kind) {
		case "text/csv":
			return true
		case "application/json", "*/*":
			return false
		}
	}
	return false
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

func fraction(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func port(p *uint16) string {
	if p == nil {
		return ""
	}
	return strconv.Itoa(int(*p))
}

var countColumns = []string{"bytes", "packets", "lower", "upper"}

func countCells(c count, i interval) []string {
	return []string{number(c.Bytes), number(c.Packets), number(i.Lower), number(i.Upper)}
}
