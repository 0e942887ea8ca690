package docs

import (
	"slices"
	"strings"

	"github.com/alecthomas/kingpin/v2"
)

// Table returns a Markdown table.
func Table(header []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(header)
	line(slices.Repeat([]string{"---"}, len(header)))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = strings.ReplaceAll(cell, "|", `\|`)
		}
		line(cells)
	}
	return b.String()
}

// Code marks a value as one; what is empty stays so.
func Code(value string) string {
	if value == "" {
		return ""
	}
	return "`" + value + "`"
}

// Flags returns a table of a program's flags, but for hidden ones and those that are
// documented elsewhere, and of the flags of its commands.
func Flags(app *kingpin.Application, elsewhere func(name string) bool) string {
	model := app.Model()
	rows := flagRows("", model.Flags, elsewhere)
	for _, command := range model.FlattenedCommands() {
		rows = append(rows, []string{Code(command.FullCommand), "", command.Help})
		rows = append(rows, flagRows(command.FullCommand+" ", command.Flags, elsewhere)...)
	}
	return Table([]string{"Flag or command", "Default", "What it does"}, rows)
}

func flagRows(command string, flags []*kingpin.FlagModel, elsewhere func(name string) bool) (rows [][]string) {
	for _, f := range flags {
		if f.Hidden || elsewhere(f.Name) {
			continue
		}
		name := "--" + f.Name
		if f.Short != 0 {
			name = "-" + string(f.Short) + ", " + name
		}
		rows = append(rows, []string{Code(command + name), Code(strings.Join(f.Default, ",")), f.Help})
	}
	return rows
}
