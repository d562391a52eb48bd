package ec2

import (
	"encoding/xml"
	"maps"
	"slices"
	"strings"

	"cloudmaster/integration/aws/call"
)

// Type is an instance type.
type Type struct {
	Name   string
	CPUs   int
	Memory int    // MiB
	Arch   string // x86_64 or arm64
}

// builtinTypes are the types that every region has at first. Source: EC2 Instance Types, "Specifications".
func builtinTypes() map[string]Type {
	const (
		intel = "x86_64"
		arm   = "arm64"
	)
	out := make(map[string]Type)
	for _, t := range []Type{
		{"t3.nano", 2, 512, intel},
		{"t3.micro", 2, 1024, intel},
		{"t3.small", 2, 2048, intel},
		{"t3.medium", 2, 4096, intel},
		{"t3.large", 2, 8192, intel},
		{"t3a.micro", 2, 1024, intel},
		{"t4g.micro", 2, 1024, arm},
		{"t4g.small", 2, 2048, arm},
		{"c7a.large", 2, 4096, intel},
		{"c7i.large", 2, 4096, intel},
		{"c7g.large", 2, 4096, arm},
		{"c7g.xlarge", 4, 8192, arm},
		{"m7a.large", 2, 8192, intel},
		{"m7g.large", 2, 8192, arm},
	} {
		out[t.Name] = t
	}
	return out
}

type typesAnswer struct {
	XMLName xml.Name   `xml:"answer"`
	Types   []typeItem `xml:"instanceTypeSet>item"`
}

type typeItem struct {
	Name      string   `xml:"instanceType"`
	Current   bool     `xml:"currentGeneration"`
	Archs     []string `xml:"processorInfo>supportedArchitectures>item"`
	CPUs      int      `xml:"vCpuInfo>defaultVCpus"`
	Memory    int      `xml:"memoryInfo>sizeInMiB"`
	Burstable bool     `xml:"burstablePerformanceSupported"`
	Usages    []string `xml:"supportedUsageClasses>item"`
}

func (r *Region) describeTypes(in *request) (any, error) {
	names := list(in.form, "InstanceType")
	var missing []string
	for _, name := range names {
		if _, known := r.kinds[name]; !known {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return nil, call.Errorf("InvalidInstanceType", "The following supplied instance types do not exist: [%s]",
			strings.Join(missing, ", "))
	}
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(r.kinds))
	}
	var out typesAnswer
	for _, name := range names {
		t := r.kinds[name]
		if ok, err := passes(in.form, nil, t.fields); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		out.Types = append(out.Types, typeItem{
			Name: name, Current: true, Archs: []string{t.Arch}, CPUs: t.CPUs, Memory: t.Memory,
			Burstable: burstable(name), Usages: []string{"on-demand", "spot"},
		})
	}
	return out, nil
}

// fields are what filters of instance types compare.
func (t *Type) fields(name string) ([]string, bool) {
	value, known := map[string]string{
		"instance-type": t.Name, "processor-info.supported-architecture": t.Arch,
	}[name]
	return []string{value}, known
}

// burstable reports whether instances of a type earn credits.
func burstable(kind string) bool {
	return len(kind) > 1 && kind[0] == 't' && kind[1] >= '0' && kind[1] <= '9'
}
