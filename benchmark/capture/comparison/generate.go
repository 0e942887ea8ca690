// Package comparison holds the programs that TMA's capture is compared with. The C
// source is the source; the object and comparison_bpfel.go are generated from it by
// `make generate` and committed.
package comparison

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel -go-package comparison -type counters -type count -type key -type shared_flow Comparison comparison.bpf.c -- -O2 -I../../../bpf -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu -mcpu=v3 -Wall -Wextra -Wpadded -Werror
