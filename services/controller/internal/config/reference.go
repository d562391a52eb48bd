package config

import (
	"cmp"
	"fmt"
	"strings"

	"cloudmaster/internal/kind"
)

// chapter is a part of the reference: what it is about, and its keys.
type chapter struct {
	level int
	title string
	text  string
	keys  []kind.Key
}

// Reference returns all keys of a configuration with these kinds, as docs/reference.md has them.
func Reference(kinds Kinds) string {
	var out strings.Builder
	out.WriteString("# All keys of the controller's configuration\n\n")
	out.WriteString("This page is made from what policies, clouds, backends and reports say of themselves:\n" +
		"`go test ./services/controller/internal/config -run Reference -update` writes it anew. " +
		"`controller help keys`\nprints the same. [formats.md](formats.md) explains the file, " +
		"and [policies.md](policies.md) what policies do\nwith their keys.\n")
	for _, c := range kinds.chapters() {
		fmt.Fprintf(&out, "\n%s %s\n%s\n", strings.Repeat("#", c.level+1), c.title, wrap(c.text, 110))
		if len(c.keys) == 0 {
			continue
		}
		out.WriteString("\n| key | type | default | meaning |\n|---|---|---|---|\n")
		for _, k := range c.keys {
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", k.Name, k.Type, cell(k.Default), cell(k.Help))
		}
	}
	return out.String()
}

// cell writes text so that a table takes it as it is.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "<", `\<`, ">", `\>`, "\n", " ").Replace(text)
}

// Help returns the same for a terminal.
func Help(kinds Kinds) string {
	var out strings.Builder
	for i, c := range kinds.chapters() {
		if i > 0 {
			out.WriteString("\n")
		}
		fmt.Fprintf(&out, "%s\n", strings.ToUpper(c.title))
		for line := range strings.SplitSeq(wrap(c.text, 96), "\n") {
			fmt.Fprintf(&out, "  %s\n", line)
		}
		for _, k := range c.keys {
			fmt.Fprintf(&out, "\n  %s (%s", k.Name, k.Type)
			if k.Default != "" {
				fmt.Fprintf(&out, "; default: %s", k.Default)
			}
			fmt.Fprintf(&out, ")\n      %s\n", strings.ReplaceAll(wrap(k.Help, 92), "\n", "\n      "))
		}
	}
	return out.String()
}

// wrap breaks text into lines of at most so many characters.
func wrap(text string, width int) string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return strings.Join(append(lines, line), "\n")
}

// chapters are the parts of the reference, in their order.
func (k *Kinds) chapters() []chapter {
	top, pools := k.topDefaults(), k.poolDefaults()
	out := []chapter{
		{
			1, "Top level",
			"Beside these keys there are the sections clouds, pools and defaults, and those of backends.",
			kind.Keys(&top),
		},
		{
			1, "Pools",
			"In a section of pools by the pool's name. All but image and cloud may also stand under defaults, " +
				"from where each pool has them that does not set them.", kind.Keys(&pools),
		},
	}
	out = append(out, k.policyChapters()...)
	out = append(out, k.cloudChapters()...)
	out = append(out, chapter{1, "Backends", "Where queues and objects are, in the key backend.", nil})
	for i := range k.Backends {
		b := &k.Backends[i]
		text := "As " + cmp.Or(b.Form, b.Name) + ": " + sentence(b.Help)
		text += fmt.Sprintf(" There the controller's lease holds for %s without renewal.", kind.Duration(b.LeaseTTL))
		if !b.Watches {
			text += " Work queues cannot tell of messages by themselves: they are looked at every poll_interval."
		}
		if b.Section != "" {
			text += " Its keys are in the section " + b.Section + "."
		}
		out = append(out, chapter{2, "Backend " + b.Name, text, kind.Keys(backendSettings(b))})
	}
	out = append(out, chapter{1, "Reports", "What operators see, in the key report.", nil})
	for i := range k.Sinks {
		out = append(out, chapter{
			2, "Report " + k.Sinks[i].Name, sentence(k.Sinks[i].Help), kind.Keys(k.Sinks[i].Settings()),
		})
	}
	return out
}

func (k *Kinds) policyChapters() []chapter {
	out := []chapter{{
		1, "Policies",
		"What decides a pool's size, in the key policy. Their keys stand beside the others in the pool, " +
			"or under defaults.", nil,
	}}
	for i := range k.Policies {
		p := &k.Policies[i]
		keys := kind.Keys(p.Settings())
		if p.Over != "" {
			keys = append(keys, kind.Keys(&baseKey{Base: p.Over})...)
		}
		if key := p.Traits.Orders; key != "" {
			word, _, _ := strings.Cut(key, "_")
			keys = append(keys, kind.Key{
				Name: key, Type: "text", Default: "<pool>-" + word,
				Help: "queue of operators' orders; -<deployment> is appended unless the deployment is empty",
			})
		}
		text := sentence(p.Help)
		if p.Traits.TakesRequests {
			text += " Its work queue carries requests for servers, which the controller takes."
		}
		if p.Over != "" {
			text += " The pool has the keys of the policy in base as well."
		}
		out = append(out, chapter{2, "Policy " + p.Name, text, keys})
	}
	return out
}

func (k *Kinds) cloudChapters() []chapter {
	keys := cloudKeys{Type: k.Clouds[0].Name}
	out := []chapter{
		{1, "Clouds", "Where instances run, in a section of clouds by the cloud's name.", kind.Keys(&keys)},
	}
	for i := range k.Clouds {
		c := &k.Clouds[i]
		text := fmt.Sprintf("%s Its instances are listed every %s by default.",
			sentence(c.Help), kind.Duration(c.AuditInterval))
		if own := poolKeysOn(c); len(own) > 0 {
			text += " These keys may also stand in a pool, or under defaults, and go over the cloud's there: " +
				strings.Join(own, ", ") + "."
		}
		out = append(out, chapter{2, "Cloud " + c.Name, text, kind.Keys(c.Settings())})
	}
	return out
}

// sentence begins with a capital letter and ends with a full stop.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}
