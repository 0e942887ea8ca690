package scrape

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

// position is up to where an exporter was read.
type position struct {
	known    bool
	boot     [16]byte // run of the exporter
	sequence uint64
}

// query asks for what comes after the position, and to wait for it if need be.
func (p position) query(wait time.Duration) url.Values {
	q := url.Values{"after": {strconv.FormatUint(p.sequence, 10)}, "wait": {model.Duration(wait).String()}}
	if p.known {
		q.Set("boot_id", hex.EncodeToString(p.boot[:]))
	}
	return q
}

// maxWait is the longest that an exporter lets us wait.
const maxWait = 30 * time.Second

var errTimeout = errors.New("no complete answer in time")

// poll is one request. It returns how many bytes came over the network, also if
// there was an error.
func (s *Scraper) poll(ctx context.Context, t *Target, at position) (*epoch.Batch, uint64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.Timeout, fmt.Errorf("%w: within %v", errTimeout, t.Timeout))
	defer cancel()
	wait := min(t.Timeout/2, maxWait)
	batch, n, err := s.request(ctx, t.Client, t.URL+"?"+at.query(wait).Encode())
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return batch, n, err
}

func (s *Scraper) request(ctx context.Context, client *http.Client, address string) (*epoch.Batch, uint64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	request.Header.Set("Accept", contentType)
	request.Header.Set("Accept-Encoding", "zstd")
	response, err := client.Do(request)
	if err != nil {
		return nil, 0, withoutAddress(err)
	}
	defer response.Body.Close()
	if err := checkHeader(response); err != nil {
		return nil, 0, err
	}
	return s.reader.read(response.Body, response.Header.Get("Content-Encoding"))
}

const contentType = "application/x-protobuf"

// checkHeader refuses answers that aren't epochs.
func checkHeader(response *http.Response) error {
	if response.StatusCode != http.StatusOK {
		return &answerError{StatusCode, fmt.Errorf("the exporter answered %.64s", response.Status)}
	}
	given := response.Header.Get("Content-Type")
	if parsed, _, err := mime.ParseMediaType(given); err != nil || parsed != contentType {
		return &answerError{ContentType, fmt.Errorf("content type %.64q, %s was asked for", given, contentType)}
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

// newer returns the batch's epochs after the position and how many were missed
// before or between them, and moves the position on. Nothing of a run of the
// exporter that wasn't read before counts as missed. If the exporter holds less than
// it has sent before, that is an error, and the position goes back.
func (p *position) newer(batch *epoch.Batch) (epochs []*epoch.Epoch, missed uint64, err error) {
	if !p.known || p.boot != batch.BootID {
		*p = position{known: true, boot: batch.BootID}
	}
	newest := batch.Newest
	if n := len(batch.Epochs); n > 0 {
		newest = max(newest, batch.Epochs[n-1].Sequence)
	}
	if newest < p.sequence {
		err = &answerError{Sequence, fmt.Errorf("sequences run backwards: epoch %d was read, the newest is %d", p.sequence, newest)}
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
