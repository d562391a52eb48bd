package memblob

import "cloudmaster/internal/faults"

// The operations that can fail; faults.Any stands for all of them.
const (
	OpGet    faults.Op = "get"
	OpPut    faults.Op = "put"
	OpDelete faults.Op = "delete"
)
