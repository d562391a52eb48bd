package ec2cloud

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"cloudmaster/internal/awsconf"
	"cloudmaster/internal/cloud"
)

var idsNamed = regexp.MustCompile(`i-[0-9a-f]+`)

// batched makes a call for a batch of instances and returns those that do not exist any more. If EC2 refuses one
// instance, it does nothing for the whole batch. Then the call is repeated without those that EC2 names as
// missing; if it names none, each instance is tried alone.
func batched(ids []string, call func(ids []string) error) (missing []string, err error) {
	for len(ids) > 0 {
		err := call(ids)
		gone := errors.Is(meaning(err), cloud.ErrNotFound)
		switch {
		case err == nil:
			return missing, nil
		case gone && len(ids) == 1:
			return append(missing, ids[0]), nil
		case len(ids) == 1:
			return missing, fmt.Errorf("instance %s: %w", ids[0], classify(err))
		case !gone && awsconf.Code(err) != "OperationNotPermitted":
			return missing, fmt.Errorf("%d instances: %w", len(ids), classify(err))
		}
		named, rest := split(ids, err.Error())
		if !gone || len(named) == 0 {
			alone, err := oneByOne(ids, call)
			return append(missing, alone...), err
		}
		missing, ids = append(missing, named...), rest
	}
	return missing, nil
}

func oneByOne(ids []string, call func(ids []string) error) (missing []string, err error) {
	var errs []error
	for i := range ids {
		gone, err := batched(ids[i:i+1], call)
		missing, errs = append(missing, gone...), append(errs, err)
	}
	return missing, errors.Join(errs...)
}

// split divides ids into those that a text names and the rest.
func split(ids []string, text string) (named, rest []string) {
	in := idsNamed.FindAllString(text, -1)
	for _, id := range ids {
		if slices.Contains(in, id) {
			named = append(named, id)
		} else {
			rest = append(rest, id)
		}
	}
	return named, rest
}
