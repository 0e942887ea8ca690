// Package poll reads the epochs of an exporter by long polls.
//
// A poll asks for the epochs after the last one that was read; an exporter keeps
// the last minutes, so a poll that fails loses nothing. Sizes of answers are
// bounded before anything is allocated.
package poll

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/prometheus/common/model"

	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

// Position is up to where an exporter was read. The zero value is before
// everything.
type Position struct {
	known    bool
	boot     [16]byte // run of the exporter
	sequence uint64
}

// query asks for what comes after the position, and to wait for it if need be.
func (p Position) query(wait time.Duration) url.Values {
	q := url.Values{"after": {strconv.FormatUint(p.sequence, 10)}, "wait": {model.Duration(wait).String()}}
	if p.known {
		q.Set("boot_id", hex.EncodeToString(p.boot[:]))
	}
	return q
}

// Poll is one request to an address, that of epochs without a query, through a
// client that doesn't decompress by itself. The exporter is asked to wait half of
// the timeout for an epoch. Poll returns how many bytes came over the network, also
// if there was an error.
func Poll(ctx context.Context, client *http.Client, address string, timeout time.Duration, at Position) (*epoch.Batch, uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no complete answer within %v", timeout))
	defer cancel()
	batch, n, err := request(ctx, client, address+"?"+at.query(timeout/2).Encode())
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return batch, n, err
}

func request(ctx context.Context, client *http.Client, address string) (*epoch.Batch, uint64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", "application/x-protobuf")
	request.Header.Set("Accept-Encoding", "zstd")
	began := time.Now()
	response, err := client.Do(request)
	answered := time.Now()
	if err != nil {
		return nil, 0, withoutAddress(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("the exporter answered %s", response.Status)
	}
	body := &counter{from: response.Body}
	message, err := readMessage(body, response.Header.Get("Content-Encoding"))
	if err != nil {
		return nil, body.n, err
	}
	batch, err := epoch.DecodeBatch(message)
	if err == nil {
		// A step of the clock between the two counts as if it had been before.
		batch.Exchange.Requested, batch.Exchange.Answered = answered.Add(-answered.Sub(began)), answered
	}
	return batch, body.n, err
}

// withoutAddress shortens an error that repeats the whole address.
func withoutAddress(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// Newer returns the batch's epochs after the position and how many were missed
// before or between them, and moves the position on. Nothing of a run of the
// exporter that wasn't read before counts as missed.
func (p *Position) Newer(batch *epoch.Batch) (epochs []*epoch.Epoch, missed uint64) {
	if !p.known || p.boot != batch.BootID {
		*p = Position{known: true, boot: batch.BootID}
	}
	for _, e := range batch.Epochs {
		if e.Sequence <= p.sequence {
			continue
		}
		if p.sequence != 0 {
			missed += e.Sequence - p.sequence - 1
		}
		p.sequence = e.Sequence
		epochs = append(epochs, e)
	}
	return epochs, missed
}
