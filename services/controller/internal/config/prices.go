package config

import (
	"strings"

	"cloudmaster/internal/pool"
	"cloudmaster/services/controller/internal/price"
)

const keyPrices = "prices"

// readPrices reads the table in a file, or the one that ships if none is named.
func (r *reader) readPrices(file string) *price.Table {
	table, err := price.Shipped()
	if file != "" {
		table, err = price.Load(file)
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			r.complain([]string{keyPrices}, "%s", line)
		}
	}
	return table
}

// Book returns what the instances of all clouds cost.
func (c *Config) Book() *price.Book {
	flat := make(map[pool.CloudName]float64)
	for name, where := range c.Clouds {
		if where.Kind.PricePerHour == nil {
			continue
		}
		if usd, known := where.Kind.PricePerHour(where.Settings); known {
			flat[name] = usd
		}
	}
	return &price.Book{Table: c.Prices, Flat: flat}
}
