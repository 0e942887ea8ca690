package capture

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"
)

func newJournal(data int) (*journal, []byte) {
	layout := Layout{Devices: 4, JournalBytes: data}
	memory := make([]byte, journalSize(layout.Devices, data))
	return create(memory, layout), memory
}

// Whatever lengths messages have, the journal holds the last ones, whole and in
// order, and as many as there is room for; a list of all of them is the oracle.
func TestJournalKeepsTheLastMessages(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	j, memory := newJournal(1 << 12)
	var all []Kept
	for sequence := range uint64(2000) {
		message := make([]byte, 1+r.IntN(900))
		for i := range message {
			message[i] = byte(r.Uint32())
		}
		all = append(all, Kept{sequence + 1, time.Unix(0, int64(sequence)), message})
		j.commit(sequence+1, all[sequence].End, message, commit{half: sequence & 1})
		again, ok := overlay(memory)
		if !ok {
			t.Fatal("the journal can't be opened")
		}
		kept := again.kept()
		if want := all[len(all)-len(kept):]; !reflect.DeepEqual(kept, want) {
			t.Fatalf("after %d messages it keeps others than the last %d", len(all), len(kept))
		}
		var size uint64
		for _, k := range all[len(all)-len(kept):] {
			size += k.size()
		}
		if len(kept) < len(all) {
			if before := all[len(all)-len(kept)-1]; size+before.size() <= 1<<12 {
				t.Fatalf("it keeps %d bytes, and has room for %d more", size, before.size())
			}
		}
	}
}

// A run that is killed while it writes a message, at any byte, leaves the others.
func TestJournalSurvivesHalfAMessage(t *testing.T) {
	j, memory := newJournal(1 << 10)
	for sequence := range uint64(20) {
		j.commit(sequence+1, time.Now(), bytes.Repeat([]byte{byte(sequence)}, 100), commit{})
	}
	before := j.kept()
	j.append(j.last().head, Kept{21, time.Now(), bytes.Repeat([]byte{0xff}, 300)}) // and no commit
	again, _ := overlay(memory)
	kept := again.kept()
	if len(kept) == 0 || len(kept) >= len(before) {
		t.Fatalf("%d of %d messages are kept", len(kept), len(before))
	}
	if !reflect.DeepEqual(kept, before[len(before)-len(kept):]) {
		t.Error("what is kept aren't the last messages")
	}
	again.commit(21, time.Unix(7, 0), []byte("next"), commit{})
	if last := again.kept()[len(kept)]; last.Sequence != 21 || string(last.Message) != "next" {
		t.Errorf("the next message is %d %q", last.Sequence, last.Message)
	}
}

// A message that is longer than the journal leaves it empty, and it goes on.
func TestJournalRefusesTooLongMessages(t *testing.T) {
	j, _ := newJournal(1 << 8)
	j.commit(1, time.Unix(1, 0), []byte("first"), commit{})
	j.commit(2, time.Unix(2, 0), make([]byte, 1<<8), commit{})
	if kept := j.kept(); len(kept) != 0 {
		t.Errorf("%d messages are kept", len(kept))
	}
	j.commit(3, time.Unix(3, 0), []byte("third"), commit{})
	if kept := j.kept(); len(kept) != 1 || kept[0].Sequence != 3 {
		t.Errorf("kept %v, want the third", kept)
	}
}

func TestJournalRecordsDevices(t *testing.T) {
	j, memory := newJournal(1 << 8)
	j.record(&device{name: "a-name-of-15-by", kind: "veth", index: 7, number: 2})
	j.record(&device{name: "eth0", kind: "device", index: 3, number: 3})
	j.record(&device{name: "eth1", kind: "device", index: 3, number: 3})
	j.record(&device{name: "gone", index: 9, number: 1})
	j.erase(1)
	again, _ := overlay(memory)
	want := []*device{{name: "a-name-of-15-by", kind: "veth", index: 7, number: 2, gone: 1}, {name: "eth1", kind: "device", index: 3, number: 3, gone: 1}}
	if got := again.recorded(); !slices.EqualFunc(got, want, func(a, b *device) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("recorded %v, want %v", got, want)
	}
}

// A memory that isn't a journal, or says that it is larger than it is, is refused.
func TestJournalRefusesOtherMemory(t *testing.T) {
	for name, spoil := range map[string]func(*journalHeader){
		"format":   func(h *journalHeader) { h.format++ },
		"devices":  func(h *journalHeader) { h.layout[2] = 1 << 40 },
		"data":     func(h *journalHeader) { h.layout[5] <<= 1 },
		"no power": func(h *journalHeader) { h.layout[5]-- },
		"negative": func(h *journalHeader) { h.layout[2] = ^uint64(0) },
	} {
		j, memory := newJournal(1 << 8)
		spoil(j.header)
		if _, ok := overlay(memory); ok {
			t.Errorf("%s: a wrong journal is accepted", name)
		}
	}
	if _, ok := overlay(make([]byte, 10)); ok {
		t.Error("a short journal is accepted")
	}
}
