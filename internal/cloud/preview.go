package cloud

import (
	"context"

	"cloudmaster/internal/pool"
)

// Preview is what a launch would make now, as far as the cloud knows without launching.
type Preview struct {
	Images []string // ids as in Instance.Image, sorted; empty: any
	Types  []string // as in Instance.Type; empty: any
	// Open are the places, as in Instance.Place, in which a launch is possible now, if the instances of the pool are to
	// be level over its places. Nil: they need not be.
	Open []string
}

// Previewer is a Cloud that can tell what a launch would make.
type Previewer interface {
	// Preview tells what a launch of an image for a pool would make now. It may be called often, and asks the cloud
	// itself once in five minutes for each image at most. After an error nothing is known.
	Preview(ctx context.Context, name pool.Name, image string) (Preview, error)
}
