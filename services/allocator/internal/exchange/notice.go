package exchange

import (
	"encoding/json"
	"errors"
	"fmt"

	"cloudmaster/internal/pool"
)

const (
	mostClients = 1_000_000 // of one instance in one notice; far above what an allocator can do
	shown       = 200       // bytes of a damaged notice that are logged
)

// notice says which clients an allocator has assigned since its last notice.
type notice struct {
	From    string                                `json:"from"`              // the allocator, anew with each start
	At      int64                                 `json:"at_ms"`             // milliseconds since it was started
	Clients map[pool.Name]map[pool.InstanceID]int `json:"clients,omitempty"` // by pool and instance
}

func (n *notice) encode() []byte {
	data, err := json.Marshal(n)
	if err != nil { // cannot happen: there are only strings and numbers in it
		return nil
	}
	return data
}

// decode returns an error if the sender or a count is not possible. Unknown keys are ignored, so that an old allocator
// understands a newer one.
func decode(data []byte) (notice, error) {
	var n notice
	if err := json.Unmarshal(data, &n); err != nil {
		return notice{}, fmt.Errorf("decode notice: %w", err)
	}
	if n.From == "" {
		return notice{}, errors.New("decode notice: the sender is missing")
	}
	for name, news := range n.Clients {
		for id, clients := range news {
			if clients < 1 || clients > mostClients {
				return notice{}, fmt.Errorf("decode notice: %d clients for instance %q of pool %q", clients, id, name)
			}
		}
	}
	return n, nil
}

func beginning(data []byte) string { return string(data[:min(len(data), shown)]) }
