package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// The aggregator's answers, as far as the view needs them.
type (
	span struct {
		From time.Time `json:"from"`
		To   time.Time `json:"to"`
	}
	amount struct {
		Bytes   uint64 `json:"bytes"`
		Packets uint64 `json:"packets"`
	}
	heavyHitters struct {
		span
		Total        amount `json:"total"`
		HeavyHitters []struct {
			Prefix string `json:"prefix"`
			amount
			ConditionedBytes uint64 `json:"conditioned_bytes"`
		} `json:"heavy_hitters"`
	}
	topFlows struct {
		span
		Top []struct {
			Source          string `json:"source"`
			Destination     string `json:"destination"`
			SourcePort      uint16 `json:"source_port"`
			DestinationPort uint16 `json:"destination_port"`
			Protocol        string `json:"protocol"`
			amount
		} `json:"top"`
	}
	cardinality struct {
		Estimates []struct {
			Of       string  `json:"of"`
			Estimate float64 `json:"estimate"`
		} `json:"estimates"`
	}
	exporters struct {
		Exporters []struct {
			Name string `json:"name"`
			Up   bool   `json:"up"`
		} `json:"exporters"`
	}
)

// answers is all that one view shows.
type answers struct {
	sources, destinations heavyHitters
	top                   topFlows
	cardinality           cardinality
	exporters             exporters
}

// The questions of the view.
const (
	window        = "10s"
	sourceQuery   = "/v1/hhh?dimension=source&window=" + window + "&phi=0.05"
	destQuery     = "/v1/hhh?dimension=destination&window=" + window + "&phi=0.05"
	topQuery      = "/v1/top?by=flow&window=" + window
	distinctQuery = "/v1/cardinality?window=" + window
	exporterQuery = "/v1/exporters"
)

// ask asks the aggregator everything.
func ask(ctx context.Context, aggregator string) (*answers, error) {
	a := &answers{}
	for _, question := range []struct {
		path   string
		answer any
	}{
		{sourceQuery, &a.sources}, {destQuery, &a.destinations}, {topQuery, &a.top},
		{distinctQuery, &a.cardinality}, {exporterQuery, &a.exporters},
	} {
		if err := get(ctx, "http://"+aggregator+question.path, question.answer); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// askTimeout bounds one question, so that a slow answer doesn't stop the view.
const askTimeout = 2 * time.Second

func get(ctx context.Context, url string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}
