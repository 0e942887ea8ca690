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
	"mime"
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

// maxWait is the longest that an exporter lets us wait.
const maxWait = 30 * time.Second

var errTimeout = errors.New("no complete answer in time")

// Poll is one request to an address, that of epochs without a query, through a
// client that doesn't decompress by itself. The exporter is asked to wait half of
// the timeout for an epoch. Poll returns how many bytes came over the network, also
// if there was an error; ReasonOf classifies that.
func (r *Reader) Poll(ctx context.Context, client *http.Client, address string, timeout time.Duration, at Position) (*epoch.Batch, uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: within %v", errTimeout, timeout))
	defer cancel()
	wait := min(timeout/2, maxWait)
	batch, n, err := r.request(ctx, client, address+"?"+at.query(wait).Encode())
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return batch, n, err
}

func (r *Reader) request(ctx context.Context, client *http.Client, address string) (*epoch.Batch, uint64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", contentType)
	request.Header.Set("Accept-Encoding", "zstd")
	began := time.Now()
	response, err := client.Do(request)
	answered := time.Now()
	if err != nil {
		return nil, 0, withoutAddress(err)
	}
	defer response.Body.Close()
	if err := checkHeader(response); err != nil {
		return nil, 0, err
	}
	batch, n, err := r.read(response.Body, response.Header.Get("Content-Encoding"))
	if err == nil {
		// A step of the clock between the two counts as if it had been before.
		batch.Exchange.Requested, batch.Exchange.Answered = answered.Add(-answered.Sub(began)), answered
	}
	return batch, n, err
}

const contentType = "application/x-protobuf"

// checkHeader refuses answers that aren't epochs.
func checkHeader(response *http.Response) error {
	if response.StatusCode != http.StatusOK {
		return &Error{StatusCode, fmt.Errorf("the exporter answered %.64s", response.Status)}
	}
	given := response.Header.Get("Content-Type")
	if parsed, _, err := mime.ParseMediaType(given); err != nil || parsed != contentType {
		return &Error{ContentType, fmt.Errorf("content type %.64q, %s was asked for", given, contentType)}
	}
	return nil
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
// exporter that wasn't read before counts as missed. If the exporter holds less than
// it has sent before, that is an error, and the position goes back.
func (p *Position) Newer(batch *epoch.Batch) (epochs []*epoch.Epoch, missed uint64, err error) {
	if !p.known || p.boot != batch.BootID {
		*p = Position{known: true, boot: batch.BootID}
	}
	newest := batch.Newest
	if n := len(batch.Epochs); n > 0 {
		newest = max(newest, batch.Epochs[n-1].Sequence)
	}
	if newest < p.sequence {
		err = &Error{Sequence, fmt.Errorf("sequences run backwards: epoch %d was read, the newest is %d", p.sequence, newest)}
		p.sequence = newest
		return nil, 0, err
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
	return epochs, missed, nil
}
