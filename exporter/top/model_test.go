package top

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
	"github.com/traffic-monitor-agent/tma/internal/flow"
)

var update = flag.Bool("update", false, "write what is drawn to testdata")

// screenTest is a model that gets messages and is looked at.
type screenTest struct {
	*testing.T
	*model
	clock time.Time
}

func newScreenTest(t *testing.T) *screenTest {
	t.Helper()
	q := query{view: &views[0], window: 1}
	s := &screenTest{T: t, clock: start}
	s.model = newModel(t.Context(), &top{
		query: q, interval: time.Second, shown: "http://localhost:10017", feed: &feed{},
		now: func() time.Time { return s.clock },
	})
	s.size(80, 24)
	return s
}

// send is what the library does with a message, but for the command.
func (s *screenTest) send(message tea.Msg) tea.Cmd {
	s.Helper()
	_, command := s.Update(message)
	return command
}

func (s *screenTest) size(width, height int) { s.send(tea.WindowSizeMsg{Width: width, Height: height}) }

// receive takes in epochs; the clock is 300 ms behind the last.
func (s *screenTest) receive(epochs ...*epoch.Epoch) {
	s.clock = epochs[len(epochs)-1].End.Add(300 * time.Millisecond)
	s.send(polled{epochs: epochs})
	s.send(tick{})
}

// key is a key as the library reads it.
func key(name string) tea.KeyPressMsg {
	special := map[string]rune{
		"tab": tea.KeyTab, "left": tea.KeyLeft, "right": tea.KeyRight, "up": tea.KeyUp, "down": tea.KeyDown,
		"pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "home": tea.KeyHome, "end": tea.KeyEnd,
		"enter": tea.KeyEnter, "esc": tea.KeyEscape, "backspace": tea.KeyBackspace,
	}
	switch {
	case name == "space":
		return tea.KeyPressMsg{Code: tea.KeySpace, Text: " "}
	case name == "shift+tab":
		return tea.KeyPressMsg{Code: tea.KeyTab, Mod: tea.ModShift}
	case strings.HasPrefix(name, "ctrl+"):
		return tea.KeyPressMsg{Code: rune(name[5]), Mod: tea.ModCtrl}
	case special[name] != 0:
		return tea.KeyPressMsg{Code: special[name]}
	}
	return tea.KeyPressMsg{Code: rune(name[0]), Text: name}
}

// press presses keys, one after the other.
func (s *screenTest) press(names ...string) (last tea.Cmd) {
	for _, name := range names {
		last = s.send(key(name))
	}
	return last
}

// typed types a text.
func (s *screenTest) typed(text string) {
	for _, r := range text {
		if r == ' ' {
			s.press("space")
			continue
		}
		s.press(string(r))
	}
}

// drawn is the screen without styles, spaces at the ends of lines removed. It has
// exactly as many lines, and none wider, than the terminal.
func (s *screenTest) drawn() string {
	s.Helper()
	lines := strings.Split(ansi.Strip(s.View().Content), "\n")
	if len(lines) != s.height && !s.help {
		s.Errorf("%d lines on a screen of %d", len(lines), s.height)
	}
	for i, line := range lines {
		if n := ansi.StringWidth(line); n > s.width {
			s.Errorf("line %d has %d cells on a screen of %d: %q", i, n, s.width, line)
		}
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// golden compares the screen with a file.
func (s *screenTest) golden(name string) {
	s.Helper()
	compareGolden(s.T, name, s.drawn())
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it):\n%s", path, got)
	}
}

// has checks that the screen shows texts.
func (s *screenTest) has(texts ...string) {
	s.Helper()
	screen := s.drawn()
	for _, text := range texts {
		if !strings.Contains(screen, text) {
			s.Errorf("%q isn't on the screen:\n%s", text, screen)
		}
	}
}

func (s *screenTest) hasNot(texts ...string) {
	s.Helper()
	screen := s.drawn()
	for _, text := range texts {
		if strings.Contains(screen, text) {
			s.Errorf("%q is on the screen:\n%s", text, screen)
		}
	}
}

func (s *screenTest) receiveMixed(from, to uint64) {
	var epochs []*epoch.Epoch
	for sequence := from; sequence <= to; sequence++ {
		epochs = append(epochs, mixedEpoch(sequence))
	}
	s.receive(epochs...)
}

func TestViewsAreDrawn(t *testing.T) {
	for _, size := range []struct {
		name          string
		width, height int
	}{{"80x24", 80, 24}, {"120x40", 120, 40}} {
		s := newScreenTest(t)
		s.size(size.width, size.height)
		s.receiveMixed(1, 30)
		for i := range views {
			s.golden(views[i].name + "-" + size.name)
			s.press("tab")
		}
		s.press("?")
		s.golden("help-" + size.name)
		s.press("x")
		s.has("[flows]") // and tab has gone once around
	}
}

func TestKeysChangeTheScreen(t *testing.T) {
	s := newScreenTest(t)
	s.receiveMixed(1, 30)
	for _, step := range []struct{ key, want string }{
		{"right", "[sources]"}, {"left", "[flows]"}, {"shift+tab", "[devices]"}, {"tab", "[flows]"},
		{"4", "[services]"}, {"1", "[flows]"},
		{"b", "byte/s"}, {"b", "bit/s"},
		{"n", "172.16.0.10:https"}, {"n", "172.16.0.10:443"},
		{"w", "40s↓"}, {"w", "2s↓"}, {"w", "10s↓"},
		{"r", "10s↑"}, {"r", "10s↓"},
		{">", "51.0%"}, {"<", "51.5%"}, {"<", "SOURCE↓"}, {"s", "10s↓"},
		{"p", "PAUSED"}, {"space", "LIVE"},
	} {
		s.press(step.key)
		s.has(step.want)
	}
}

func TestPauseKeepsWhatIsLookedAt(t *testing.T) {
	s := newScreenTest(t)
	s.receiveMixed(1, 30)
	s.press("p")
	before := s.drawn()
	late := testFlow("10.5.5.5:1", "10.5.5.6:2", flow.ProtocolUDP, 1<<30)
	s.receive(testEpoch(31, late))
	s.clock = s.clock.Add(-epochLength)
	if after := s.drawn(); after != before {
		t.Errorf("paused, but drawn\n%s\ninstead of\n%s", after, before)
	}
	s.press("tab", "r", "w") // looking at the same from elsewhere
	s.hasNot("10.5.5.5")
	s.press("p", "1")
	s.has("LIVE", "10.5.5.5:1")
}

func TestFilterPrompt(t *testing.T) {
	s := newScreenTest(t)
	s.receiveMixed(1, 30)
	s.press("/")
	s.typed("port q") // keys are text in the prompt
	s.has("filter: port q")
	s.press("enter")
	s.has(`port "q" isn't a port; allowed: one such as 443 or 8000-8999`)
	s.press("backspace")
	s.hasNot("isn't a port")
	s.typed("53")
	s.press("enter")
	s.golden("filter-80x24")
	s.press("/", "esc")
	s.has("filter: port 53") // stays as it was
	s.press("esc")
	s.hasNot("filter: port 53", "filtered out")
	s.press("/")
	if command := s.press("ctrl+c"); command == nil || command() != tea.Quit() {
		t.Error("Ctrl-C in the prompt doesn't quit")
	}
}

func TestQuit(t *testing.T) {
	s := newScreenTest(t)
	for _, keys := range [][]string{{"q"}, {"ctrl+c"}, {"?", "q"}} {
		if command := s.press(keys...); command == nil || command() != tea.Quit() {
			t.Errorf("%v doesn't quit", keys)
		}
	}
}

// However far one scrolls, what isn't seen is in the line of the others.
func TestScroll(t *testing.T) {
	s := newScreenTest(t)
	var flows []epoch.Flow
	for port := range 100 {
		f := testFlow("10.0.0.1:1", "10.0.0.2:2", flow.ProtocolUDP, uint64(1_000_000-port*1000))
		f.SourcePort = uint16(1000 + port)
		flows = append(flows, f)
	}
	s.receive(testEpoch(1, flows...))
	s.has("10.0.0.1:1000 ", "10.0.0.1:1015 ", "other, 84")
	s.hasNot("10.0.0.1:1016 ")
	s.press("down")
	s.has("10.0.0.1:1001 ", "10.0.0.1:1016 ", "other, 84")
	s.press("pgdown")
	s.has("10.0.0.1:1017 ", "10.0.0.1:1032 ")
	s.press("end", "down")
	s.has("10.0.0.1:1084 ", "10.0.0.1:1099 ", "other, 84")
	s.press("pgup", "home", "up")
	s.has("10.0.0.1:1000 ")
	s.press("end")
	s.size(80, 120)
	s.has("10.0.0.1:1000 ", "10.0.0.1:1099 ")
	s.hasNot("other")
}

func TestStates(t *testing.T) {
	s := newScreenTest(t)
	s.has("CONNECTING")
	refused := errors.New("dial tcp: connection\nrefused\x1b[2J")
	s.send(polled{err: refused})
	s.has("DOWN", "retrying: dial tcp: connection refused·[2J")
	s.send(polled{})
	s.has("NO EPOCH YET")
	s.receiveMixed(1, 30)
	s.has("LIVE, 0.3s old")
	s.clock = s.clock.Add(5 * time.Second)
	s.send(polled{err: refused})
	s.has("DOWN for 5.0s, 5.3s old", "retrying: ", "10.0.0.1:40000") // what is known stays
	s.clock = s.clock.Add(-5 * time.Second)
	s.send(polled{epochs: []*epoch.Epoch{mixedEpoch(33)}, missed: 2})
	s.size(120, 24)
	s.has("LIVE", "missed 2 epochs")
	s.hasNot("retrying")
}

// A hostile exporter's texts do nothing to the terminal.
func TestHostileNames(t *testing.T) {
	s := newScreenTest(t)
	e := mixedEpoch(1)
	e.Host = "host\x1b[31m\u202e" + strings.Repeat("x", 500)
	e.Devices[0].Name = "eth0\x1b]0;title\x07\r\n"
	s.size(120, 24)
	s.receive(e)
	s.press("7")
	s.has("host·[31m·xx", "eth0·]0;title···")
	for _, r := range ansi.Strip(s.View().Content) {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u202e' {
			t.Errorf("%q goes to the terminal", r)
		}
	}
	for _, sequence := range strings.Split(s.View().Content, "\x1b")[1:] {
		if !strings.HasPrefix(sequence, "[") || strings.HasPrefix(sequence, "[31m·") {
			t.Errorf("an escape sequence that isn't ours: %.10q", sequence)
		}
	}
}

// Every view fits every size, down to nothing.
func TestSizes(t *testing.T) {
	s := newScreenTest(t)
	s.receiveMixed(1, 30)
	for range views {
		for width := 1; width < 200; width += 7 {
			for _, height := range []int{1, 2, 5, 10, 24, 60} {
				s.size(width, height)
				s.drawn()
			}
		}
		s.press("tab")
	}
}
