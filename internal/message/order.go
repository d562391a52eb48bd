package message

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxOrder bounds an operator's order, in bytes.
const maxOrder = 1 << 10

// mostOrdered is more instances than anybody runs.
const mostOrdered = 1_000_000

// EncodeOrder writes an operator's order: {"set":5} makes the number of instances 5, {"adjust":-1} lowers it by one.
func EncodeOrder(n int, absolute bool) []byte {
	key := "adjust"
	if absolute {
		key = "set"
	}
	return fmt.Appendf(nil, `{"%s":%d}`, key, n)
}

// ParseOrder reads an operator's order: a JSON object with either of the keys "set" (a number from 0 up) and
// "adjust" (a number to add, which may be negative).
func ParseOrder(body []byte) (n int, absolute bool, err error) {
	if len(body) > maxOrder {
		return 0, false, fmt.Errorf("order of %d bytes: the most is %d", len(body), maxOrder)
	}
	var o struct {
		Set    *int `json:"set"`
		Adjust *int `json:"adjust"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&o); err != nil {
		return 0, false, fmt.Errorf(`order is not of the form {"adjust": 1} or {"set": 5}: %w`, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return 0, false, errors.New("order has something behind the object")
	}
	switch {
	case o.Set != nil && o.Adjust != nil:
		return 0, false, errors.New(`order has both "set" and "adjust": give one`)
	case o.Set != nil && (*o.Set < 0 || *o.Set > mostOrdered):
		return 0, false, fmt.Errorf("order sets %d, which is not from 0 to %d", *o.Set, mostOrdered)
	case o.Set != nil:
		return *o.Set, true, nil
	case o.Adjust == nil:
		return 0, false, errors.New(`order has neither "set" nor "adjust"`)
	case *o.Adjust < -mostOrdered || *o.Adjust > mostOrdered:
		return 0, false, fmt.Errorf("order adjusts by %d, which is more than %d", *o.Adjust, mostOrdered)
	}
	return *o.Adjust, false, nil
}
