package ec2cloud

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The markets.
const (
	OnDemand = "on-demand"
	Spot     = "spot"
)

// How a pool uses its subnets.
const (
	ZonesInOrder  = "in-order"
	ZonesBalanced = "balanced"
)

// Market says at what price a pool's instances run.
type Market struct {
	Spot     int  // of a hundred instances, so many are spot instances
	Fallback bool // where there is no capacity for spot instances, they run on demand
}

// parseMarket reads a market: on-demand, spot, or a mapping as {spot: 70%, fallback: on-demand}. Nil is on-demand.
func parseMarket(v any) (Market, error) {
	switch v := v.(type) {
	case nil:
		return Market{}, nil
	case string:
		switch v {
		case OnDemand:
			return Market{}, nil
		case Spot:
			return Market{Spot: 100}, nil
		}
	case map[string]any:
		return marketOf(v)
	}
	return Market{}, fmt.Errorf("%#v is not %s, %s, or a mapping as {spot: 70%%, fallback: on-demand}", v, OnDemand,
		Spot)
}

func marketOf(keys map[string]any) (m Market, err error) {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		switch key {
		case "spot":
			m.Spot, err = share(keys[key])
			errs = append(errs, err)
		case "fallback":
			if m.Fallback = keys[key] == OnDemand; !m.Fallback && keys[key] != "none" {
				errs = append(errs, fmt.Errorf("fallback: %v is not %s or none", keys[key], OnDemand))
			}
		default:
			errs = append(errs, fmt.Errorf("%s: unknown key; there are spot and fallback", key))
		}
	}
	if _, named := keys["spot"]; !named {
		errs = append(errs, errors.New("spot: is missing: say which share of the instances are spot, as 70%"))
	}
	return m, errors.Join(errs...)
}

// share reads a percentage.
func share(v any) (int, error) {
	digits, percent := strings.CutSuffix(fmt.Sprint(v), "%")
	n, err := strconv.Atoi(digits)
	if err != nil || !percent || n < 0 || n > 100 {
		return 0, fmt.Errorf("spot: %v is not a percentage from 0%% to 100%%", v)
	}
	return n, nil
}
