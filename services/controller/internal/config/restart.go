package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// Restart returns what differs between a configuration that runs and a new one that only a restart can change: all
// but the pools, and clouds that no pool has used before.
func Restart(runs, next *Config) error {
	var errs []error
	differs := func(key string, a, b any) {
		if !reflect.DeepEqual(a, b) {
			errs = append(errs, fmt.Errorf("%s has changed, which needs a restart of the controller: restart it, or take the change back", key))
		}
	}
	differs("deployment", runs.Deployment, next.Deployment)
	differs("backend", runs.Backend, next.Backend)
	differs("worker_backend", runs.WorkerBackend, next.WorkerBackend)
	differs("broker", runs.Broker, next.Broker)
	differs("ops_listen", runs.OpsListen, next.OpsListen)
	differs("log_level", runs.LogLevel, next.LogLevel)
	differs("report", runs.Report, next.Report)
	for _, name := range slices.Sorted(maps.Keys(next.Clouds)) {
		if old, ok := runs.Clouds[name]; ok {
			differs("clouds."+name, old, next.Clouds[name])
		}
	}
	return errors.Join(errs...)
}
