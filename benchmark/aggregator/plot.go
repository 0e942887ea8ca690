package main

import (
	"image/color"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// plotGrowth draws cores and memory by the number of exporters, both logarithmic, with
// what they have to stay below.
func plotGrowth(runs []live, file string) error {
	if len(runs) == 0 {
		return nil
	}
	var cores, memory plotter.XYs
	for _, l := range runs {
		cores = append(cores, plotter.XY{X: float64(l.Exporters), Y: max(l.Cores, 0.001)})
		memory = append(memory, plotter.XY{X: float64(l.Exporters), Y: max(l.MiB, 1)})
	}
	left, err := growth("CPU", "cores", cores, 1)
	if err != nil {
		return err
	}
	right, err := growth("Resident memory", "MiB", memory, 1024)
	if err != nil {
		return err
	}
	canvas := vgsvg.New(20*vg.Centimeter, 8*vg.Centimeter)
	tiles := draw.Tiles{Rows: 1, Cols: 2, PadX: vg.Centimeter / 2, PadTop: 5, PadBottom: 5, PadLeft: 5, PadRight: 10}
	plots := [][]*plot.Plot{{left, right}}
	for i, c := range plot.Align(plots, tiles, draw.New(canvas))[0] {
		plots[0][i].Draw(c)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = canvas.WriteTo(f)
	return err
}

// growth plots points and a line at a bar.
func growth(title, unit string, points plotter.XYs, bar float64) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, "exporters", unit
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Scale, axis.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	}
	line, marks, err := plotter.NewLinePoints(points)
	if err != nil {
		return nil, err
	}
	line.Color, marks.Color = color.RGBA{0x1f, 0x77, 0xb4, 0xff}, color.RGBA{0x1f, 0x77, 0xb4, 0xff}
	marks.Shape = draw.CircleGlyph{}
	limit, err := plotter.NewLine(plotter.XYs{{X: points[0].X, Y: bar}, {X: points[len(points)-1].X, Y: bar}})
	if err != nil {
		return nil, err
	}
	limit.Color, limit.Dashes = color.RGBA{0xd6, 0x27, 0x28, 0xff}, []vg.Length{vg.Points(4), vg.Points(3)}
	p.Add(plotter.NewGrid(), line, marks, limit)
	p.Legend.Add("measured", line, marks)
	p.Legend.Add("to stay below", limit)
	p.Legend.Top, p.Legend.Left = true, true
	p.Y.Max = max(p.Y.Max, bar) * 10
	return p, nil
}
