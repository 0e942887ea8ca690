package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/traffic-monitor-agent/tma/benchmark/capture/comparison"
	"github.com/traffic-monitor-agent/tma/benchmark/load"
	"github.com/traffic-monitor-agent/tma/internal/epoch"
)

const (
	// storeFlows is the size of the hash maps: room for all flows of a measurement,
	// so that neither evicts nor refuses one, which favours them. As locked_flows
	// it takes the exporter's memory.
	storeFlows = 1 << 19
	// emptyInterval is how often user space takes the flows out of the hash maps:
	// the time that flow agents let an active flow be in theirs.
	emptyInterval = 5 * time.Second
	// storePoints is the exporter's number of points with the same memory.
	storePoints = 1024
	storePoint  = 2 // the device's
)

// store is a loaded comparison program.
type store struct {
	objects comparison.ComparisonObjects
	cpus    int
	kept    epoch.Count
}

// loadStore loads the programs, with a flow map of full size if it is the one in
// use and the smallest otherwise.
func loadStore(used string) (*store, error) {
	spec, err := comparison.LoadComparison()
	if err != nil {
		return nil, err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, err
	}
	counters := spec.Maps[comparison.ComparisonMapPointCounters]
	counters.MaxEntries, counters.ValueSize = uint32(cpus), storePoints*uint32(unsafe.Sizeof(comparison.ComparisonCounters{}))
	if used != "" {
		spec.Maps[used].MaxEntries = storeFlows
	}
	err = errors.Join(
		spec.Variables[comparison.ComparisonVarPossibleCpus].Set(uint32(cpus)),
		spec.Variables[comparison.ComparisonVarPoints].Set(uint32(storePoints)),
	)
	if err != nil {
		return nil, err
	}
	s := &store{cpus: cpus}
	if err := spec.LoadAndAssign(&s.objects, nil); err != nil {
		return nil, fmt.Errorf("load the comparison programs: %w", err)
	}
	return s, nil
}

// run attaches a program and empties its map from time to time until the context
// ends.
func (s *store) run(ctx context.Context, program *ebpf.Program, empty func() error) (sum summary, err error) {
	device, err := net.InterfaceByName(load.DeviceName)
	if err != nil {
		return sum, err
	}
	if err := s.objects.Devices.Put(uint32(device.Index), uint32(storePoint)); err != nil {
		return sum, err
	}
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: device.Index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head(),
	})
	if err != nil {
		return sum, err
	}
	ticker := time.NewTicker(emptyInterval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if err := l.Close(); err != nil {
				return sum, err
			}
		}
		if err := empty(); err != nil {
			return sum, err
		}
	}
	sum.Kept = s.kept
	sum.Total, err = s.total()
	return sum, errors.Join(err, s.objects.Close())
}

// total is what the program counted at the device, on all CPUs.
func (s *store) total() (total epoch.Count, err error) {
	all := make([]comparison.ComparisonCounters, storePoints)
	for cpu := range s.cpus {
		if err := s.objects.PointCounters.Lookup(uint32(cpu), &all); err != nil {
			return total, err
		}
		total.Add(epoch.Count{Packets: all[storePoint].Total.Packets, Bytes: all[storePoint].Total.Bytes})
	}
	return total, nil
}

func serveEmpty(ctx context.Context) (summary, error) {
	s, err := loadStore("")
	if err != nil {
		return summary{}, err
	}
	return s.run(ctx, s.objects.Empty, func() error { return nil })
}

func serveLocked(ctx context.Context) (summary, error) {
	s, err := loadStore(comparison.ComparisonMapLockedFlows)
	if err != nil {
		return summary{}, err
	}
	values := make([]comparison.ComparisonSharedFlow, emptyBatch)
	return s.run(ctx, s.objects.LockedHash, func() error {
		return takeOut(s.objects.LockedFlows, values, ebpf.LookupLock, func(v *comparison.ComparisonSharedFlow) {
			s.kept.Add(epoch.Count{Packets: v.Packets, Bytes: v.Bytes})
		})
	})
}

func serveLRU(ctx context.Context) (summary, error) {
	s, err := loadStore(comparison.ComparisonMapLruFlows)
	if err != nil {
		return summary{}, err
	}
	values := make([]comparison.ComparisonCount, emptyBatch*s.cpus)
	return s.run(ctx, s.objects.LruPercpuHash, func() error {
		return takeOut(s.objects.LruFlows, values, 0, func(v *comparison.ComparisonCount) {
			s.kept.Add(epoch.Count{Packets: v.Packets, Bytes: v.Bytes})
		})
	})
}

// emptyBatch is how many flows a system call takes out.
const emptyBatch = 4096

// takeOut empties a map of flows and hands each value to take. The length of
// values is emptyBatch, for a per-CPU map times the CPUs.
func takeOut[V any](m *ebpf.Map, values []V, flags ebpf.MapLookupFlags, take func(*V)) error {
	keys := make([]comparison.ComparisonKey, emptyBatch)
	perKey := len(values) / emptyBatch
	var cursor ebpf.MapBatchCursor
	for {
		n, err := m.BatchLookupAndDelete(&cursor, keys, values, &ebpf.BatchOptions{ElemFlags: uint64(flags)})
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("take the flows out of %v: %w", m, err)
		}
		for i := range values[:n*perKey] {
			take(&values[i])
		}
		if err != nil {
			return nil
		}
	}
}
