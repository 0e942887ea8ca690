// Package bpf holds the capture program of the kernel, its maps and the Go types
// of what it shares with user space. The C sources are the source; the object and
// capture_bpfel.go are generated from them by `make generate` and committed, so
// that building needs no clang.
package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package bpf -type count -type key -type slot -type set -type stage -type counters -type reason Capture tma.bpf.c -- -O2 -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -mcpu=v3 -Wall -Wextra -Wpadded -Werror
