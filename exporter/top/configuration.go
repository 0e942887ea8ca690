package top

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/common/config"
	"github.com/prometheus/common/version"
)

// Configuration is what a command line says.
type Configuration struct {
	URL            string // of the exporter
	HTTPConfigFile string // of Prometheus' form; empty for none
	Interval       time.Duration
	Window         string // the first one to show; this and the next are names
	By, Sort       string
	Filter         string
	Units          string
	Rows           int // of a plain table
	Count          int // of plain tables; 0 for no end
}

// AddFlags adds the flags, which write into c, to a kingpin command.
func (c *Configuration) AddFlags(to interface {
	Flag(name, help string) *kingpin.FlagClause
}) {
	flag := func(name, help, standard string) *kingpin.FlagClause { return to.Flag(name, help).Default(standard) }
	flag("url", "The exporter.", "http://localhost:10017").StringVar(&c.URL)
	to.Flag("http.config.file", "HTTP client configuration file, as of Prometheus' tools, for TLS, passwords and proxies.").
		PlaceHolder("FILE").StringVar(&c.HTTPConfigFile)
	flag("interval", "How often the screen changes and a plain table is printed.", "1s").DurationVar(&c.Interval)
	flag("window", "The time over which shares and the order are taken: "+strings.Join(windowNames(), ", ")+".", "10s").
		HintOptions(windowNames()...).StringVar(&c.Window)
	flag("by", "What to show: "+strings.Join(viewNames(), ", ")+".", views[0].name).
		HintOptions(viewNames()...).StringVar(&c.By)
	flag("sort", "By what to sort: "+strings.Join(orders, ", ")+".", orders[byBytes]).HintOptions(orders...).StringVar(&c.Sort)
	to.Flag("filter", "Show only some traffic: "+filterHelp+".").PlaceHolder("FILTER").StringVar(&c.Filter)
	flag("units", "Unit of rates: "+strings.Join(unitNames, " or ")+" a second.", unitNames[bits]).HintOptions(unitNames...).StringVar(&c.Units)
	flag("rows", "Rows of a plain table; what isn't shown is summed up in another.", "20").IntVar(&c.Rows)
	flag("count", "Print so many plain tables and end, also in a terminal; 0: no end.", "0").IntVar(&c.Count)
}

func windowNames() []string {
	names := make([]string, len(windows))
	for i, w := range windows {
		names[i] = w.String()
	}
	return names
}

func viewNames() []string {
	names := make([]string, len(views))
	for i := range views {
		names[i] = views[i].name
	}
	return names
}

// check returns an error that names the flag of a number that isn't allowed.
func (c *Configuration) check() error {
	const shortest, longest, most = 100 * time.Millisecond, time.Hour, 100_000
	switch {
	case c.Interval < shortest || c.Interval > longest:
		return fmt.Errorf("--interval: %v is out of range; allowed: %v to %v", c.Interval, shortest, longest)
	case c.Rows < 0 || c.Rows > most:
		return fmt.Errorf("--rows: %d is out of range; allowed: 0 to %d", c.Rows, most)
	case c.Count < 0:
		return fmt.Errorf("--count: %d is out of range; allowed: a number of tables, or 0 for no end", c.Count)
	}
	return nil
}

// choose returns the index of a flag's value among those that it may have.
func choose(flag, value string, allowed []string) (int, error) {
	i := slices.Index(allowed, value)
	if i < 0 {
		return 0, fmt.Errorf("--%s: %q isn't known; allowed: %s", flag, value, strings.Join(allowed, ", "))
	}
	return i, nil
}

// query returns the first query, and the units of rates.
func (c *Configuration) query() (q query, u units, err error) {
	var indexes [4]int
	for i, choice := range []struct {
		flag, value string
		allowed     []string
	}{
		{"by", c.By, viewNames()}, {"window", c.Window, windowNames()}, {"sort", c.Sort, orders}, {"units", c.Units, unitNames},
	} {
		if indexes[i], err = choose(choice.flag, choice.value, choice.allowed); err != nil {
			return q, u, err
		}
	}
	q.view, q.window, u = &views[indexes[0]], indexes[1], units(indexes[3])
	q.sortBy(order(indexes[2]))
	if q.filter, err = parseFilter(c.Filter); err != nil {
		err = fmt.Errorf("--filter: %w", err)
	}
	return q, u, err
}

// epochsURL returns where the epochs are, and the exporter's address to show, without
// a password.
func (c *Configuration) epochsURL() (address, shown string, err error) {
	text := c.URL
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return "", "", errors.New("--url: not the address of an exporter; allowed: one such as http://localhost:10017")
	}
	return u.JoinPath("/v1/epochs").String(), u.Redacted(), nil
}

// client returns a client as Prometheus' tools make it; it decompresses nothing by
// itself.
func (c *Configuration) client() (*http.Client, error) {
	settings := &config.DefaultHTTPClientConfig
	if c.HTTPConfigFile != "" {
		var err error
		if settings, _, err = config.LoadHTTPConfigFile(c.HTTPConfigFile); err != nil {
			return nil, fmt.Errorf("--http.config.file: %s", oneLine(err))
		}
	}
	client, err := config.NewClientFromConfig(*settings, "tma-exporter-top",
		config.WithUserAgent("tma-exporter-top/"+version.Version))
	if err != nil {
		return nil, fmt.Errorf("--http.config.file: %s", oneLine(err))
	}
	return client, nil
}

// oneLine makes an error's text one line, fit for a terminal.
func oneLine(err error) string {
	return printable(strings.Join(strings.Fields(err.Error()), " "), maxError)
}
