package app

import (
	"cloudmaster/internal/backend"
	"cloudmaster/internal/backend/awsbackend"
	"cloudmaster/internal/backend/natsbackend"
	"cloudmaster/internal/cloud"
	"cloudmaster/internal/cloud/ec2cloud"
	"cloudmaster/internal/cloud/processcloud"
	"cloudmaster/internal/policy"
	"cloudmaster/internal/policy/manual"
	"cloudmaster/internal/policy/schedule"
	"cloudmaster/services/controller/internal/broker"
	"cloudmaster/services/controller/internal/config"
	"cloudmaster/services/controller/internal/report"
)

// Kinds returns the policies, clouds, backends and reports that this controller has. To add one, add a line
// here. The first of each is the default.
func Kinds() config.Kinds {
	return config.Kinds{
		Policies: append(policy.Kinds(), manual.Kind(), schedule.Kind()),
		Clouds:   []cloud.Kind{processcloud.Kind(), ec2cloud.Kind()},
		Backends: []backend.Kind{broker.Kind(), natsbackend.Kind(), awsbackend.Kind()},
		Sinks:    report.Kinds(),
	}
}
