package epoch

//go:generate go build -o ../../bin/tools/ google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate protoc --plugin=../../bin/tools/protoc-gen-go --go_out=epochpb --go_opt=paths=source_relative epoch.proto
