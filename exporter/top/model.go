package top

import (
	"context"
	"slices"
	"time"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"
)

// model is the state of the screen. Messages change it: what was polled, ticks, keys.
type model struct {
	*top
	poll   tea.Cmd  // one poll, which comes back as a polled
	live   history  // goes on while paused
	paused *history // what is looked at instead, if any
	snap   *snapshot
	link   link

	prompt    textinput.Model // of the filter
	prompting bool
	wrong     error // what is wrong with the text in the prompt
	help      bool

	width, height int
	offset        int   // rows above the screen
	widest        []int // the widest labels of the view so far, so that columns stay in place
}

// link is the state of the connection.
type link struct {
	answered time.Time // last; zero before the first answer
	missed   uint64    // epochs, since the start
	err      error     // of the last poll
}

// tick says that it is time to show what came in.
type tick struct{}

func newModel(ctx context.Context, t *top) *model {
	m := &model{top: t, width: 80, height: 24, prompt: textinput.New()}
	m.poll = func() tea.Msg { return t.feed.next(ctx) }
	m.prompt.Prompt = "filter: "
	m.prompt.CharLimit = 500
	m.refresh()
	return m
}

// Init starts polling.
func (m *model) Init() tea.Cmd { return tea.Batch(m.poll, m.nextTick()) }

func (m *model) nextTick() tea.Cmd {
	return tea.Tick(m.interval, func(time.Time) tea.Msg { return tick{} })
}

// Update takes a message.
func (m *model) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case polled:
		m.take(message)
		return m, m.poll
	case tick:
		if m.paused == nil {
			m.refresh()
		}
		return m, m.nextTick()
	case tea.WindowSizeMsg:
		m.width, m.height, m.widest = message.Width, message.Height, nil
		m.prompt.SetWidth(max(1, m.width-len(m.prompt.Prompt)-1))
		m.refresh()
		return m, nil
	case tea.KeyPressMsg:
		return m, m.press(message)
	}
	return m, m.edit(message)
}

// take takes what a poll came to.
func (m *model) take(p polled) {
	m.link.err = p.err
	if p.err != nil {
		return
	}
	m.link.answered = m.now()
	m.link.missed += p.missed
	first := m.live.newest() == nil
	for _, e := range p.epochs {
		m.live.add(e)
	}
	if first && m.paused == nil {
		m.refresh()
	}
}

// refresh computes what is shown.
func (m *model) refresh() {
	h := &m.live
	if m.paused != nil {
		h = m.paused
	}
	m.snap = takeSnapshot(h, m.query)
	m.scroll(0)
}

// press does what a key says.
func (m *model) press(key tea.KeyPressMsg) tea.Cmd {
	name := key.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+z":
		return tea.Suspend
	case m.prompting:
		return m.pressInPrompt(key)
	case m.help:
		m.help = false
		if name == "q" {
			return tea.Quit
		}
		return nil
	}
	return m.command(name)
}

// command does what a key says outside the prompt.
func (m *model) command(name string) tea.Cmd {
	switch name {
	case "q":
		return tea.Quit
	case "?", "f1":
		m.help = true
	case "/":
		return m.startPrompt()
	case "up", "k":
		m.scroll(-1)
	case "down", "j":
		m.scroll(1)
	case "pgup":
		m.scroll(-m.visibleRows())
	case "pgdown":
		m.scroll(m.visibleRows())
	case "home":
		m.scroll(-len(m.snap.rows))
	case "end":
		m.scroll(len(m.snap.rows))
	default:
		if m.set(name) {
			m.refresh()
		}
	}
	return nil
}

// set changes what is shown, and says whether the key does.
func (m *model) set(name string) bool {
	q := &m.query
	switch name {
	case "tab", "right", "l":
		m.show(viewIndex(q.view) + 1)
	case "shift+tab", "left", "h":
		m.show(viewIndex(q.view) - 1)
	case "1", "2", "3", "4", "5", "6", "7":
		m.show(int(name[0] - '1'))
	case "s", ">", ".":
		q.sortBy((q.order + 1) % order(len(orders)))
	case "<", ",":
		q.sortBy((q.order + order(len(orders)) - 1) % order(len(orders)))
	case "r":
		q.reverse = !q.reverse
	case "w":
		q.window = (q.window + 1) % len(windows)
	case "b":
		m.units = bits + octets - m.units
	case "n":
		q.names, m.widest = !q.names, nil
	case "p", "space":
		m.pause()
	case "esc":
		m.filter, q.filter = "", nil
	default:
		return false
	}
	return true
}

// show changes the view.
func (m *model) show(i int) {
	m.query.view = &views[(i+len(views))%len(views)]
	m.offset, m.widest = 0, nil
}

func viewIndex(v *view) int {
	return slices.IndexFunc(views, func(other view) bool { return other.name == v.name })
}

// pause keeps what is looked at as it is, or goes on with what has come meanwhile.
func (m *model) pause() {
	if m.paused != nil {
		m.paused = nil
		return
	}
	m.paused = m.live.clone()
}

// scroll moves by so many rows, as far as there are any.
func (m *model) scroll(rows int) {
	m.offset = max(0, min(m.offset+rows, len(m.snap.rows)-m.visibleRows()))
}

func (m *model) startPrompt() tea.Cmd {
	m.prompting, m.wrong = true, nil
	m.prompt.SetValue(m.filter)
	m.prompt.CursorEnd()
	return m.prompt.Focus()
}

// pressInPrompt edits the filter. A wrong one stays in the prompt, with what is wrong.
func (m *model) pressInPrompt(key tea.KeyPressMsg) tea.Cmd {
	switch key.String() {
	case "esc":
		m.endPrompt()
	case "enter":
		f, err := parseFilter(m.prompt.Value())
		if m.wrong = err; err != nil {
			return nil
		}
		m.filter, m.query.filter = m.prompt.Value(), f
		m.offset = 0
		m.endPrompt()
		m.refresh()
	default:
		m.wrong = nil
		return m.edit(key)
	}
	return nil
}

func (m *model) endPrompt() {
	m.prompting, m.wrong = false, nil
	m.prompt.Blur()
}

// edit hands a message on to the prompt: keys, what is pasted, the blinking cursor.
func (m *model) edit(message tea.Msg) (command tea.Cmd) {
	if m.prompting {
		m.prompt, command = m.prompt.Update(message)
	}
	return command
}
