package main

import "testing"

func TestTablesAreCompared(t *testing.T) {
	s := series{name: "6.1"}
	measured := func(instructions int) string {
		return table([]*results{{series: &s, figures: []figures{{"capture_ingress", instructions, 336, 11000, 6200}}}})
	}
	if err := compareTables(measured(1000), measured(1050)); err != nil {
		t.Errorf("5 %% more: %v", err)
	}
	if compareTables(measured(1000), measured(1200)) == nil {
		t.Error("20 % more are the same")
	}
	if compareTables("", measured(1000)) == nil {
		t.Error("a kernel without figures is right")
	}
}

func TestFiguresAreRead(t *testing.T) {
	want := figures{"capture_egress", 5, 336, 11000, 6200}
	got, ok := parseFigures("        verifier: program=capture_egress instructions=5 stack=336 size=11000 native=6200")
	if !ok || got != want {
		t.Errorf("%+v %v, want %+v", got, ok, want)
	}
	if _, ok := parseFigures("verifier: program=capture_egress"); ok {
		t.Error("a line without figures has some")
	}
}

// The names that packages have had, and names of others that they resemble.
func TestSeriesKnowTheirPackages(t *testing.T) {
	tests := map[string]string{
		"linux-image-6.1.0-56-amd64":              "6.1",
		"linux-image-6.1.0-56-rt-amd64":           "6.1-rt",
		"linux-image-6.12.117+deb12-amd64":        "6.12",
		"linux-image-6.12.90+deb12.1-rt-amd64":    "6.12-rt",
		"linux-image-6.18.15+deb13-rt-amd64":      "6.18-rt",
		"linux-image-6.1.0-56-cloud-amd64":        "",
		"linux-image-6.1.0-56-amd64-unsigned":     "",
		"linux-image-6.12.117+deb12-amd64-dbg":    "",
		"linux-image-6.12-amd64":                  "",
		"linux-image-6.12.117+deb12-rt-amd64-dbg": "",
	}
	for name, want := range tests {
		got := ""
		for _, s := range all {
			if s.pattern.MatchString(name) {
				got += s.name
			}
		}
		if got != want {
			t.Errorf("%s is of series %q, want %q", name, got, want)
		}
	}
}
