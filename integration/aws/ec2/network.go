package ec2

import (
	"encoding/xml"
	"slices"
	"strconv"

	"cloudmaster/integration/aws/call"
)

type subnetsAnswer struct {
	XMLName xml.Name     `xml:"answer"`
	Subnets []subnetItem `xml:"subnetSet>item"`
	Next    string       `xml:"nextToken,omitempty"`
}

type subnetItem struct {
	ID      string `xml:"subnetId"`
	State   string `xml:"state"`
	VPC     string `xml:"vpcId"`
	CIDR    string `xml:"cidrBlock"`
	Zone    string `xml:"availabilityZone"`
	Free    int    `xml:"availableIpAddressCount"`
	Default bool   `xml:"defaultForAz"`
	Public  bool   `xml:"mapPublicIpOnLaunch"`
	Tags    []tag  `xml:"tagSet>item"`
}

func (r *Region) describeSubnets(in *request) (any, error) {
	ids := list(in.form, "SubnetId")
	for _, id := range ids {
		if r.findSubnet(id) == nil {
			return nil, call.Errorf("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
		}
	}
	var found []subnetItem
	for _, s := range r.subnets {
		ok, err := passes(in.form, s.Tags, s.fields)
		switch {
		case err != nil:
			return nil, err
		case !ok, len(ids) > 0 && !slices.Contains(ids, s.ID):
			continue
		}
		found = append(found, subnetItem{
			ID: s.ID, State: "available", VPC: s.VPC, CIDR: s.CIDR, Zone: s.Zone, Free: s.left, Default: s.zonesOf,
			Public: s.Public, Tags: tagSet(s.Tags),
		})
	}
	part, next, err := page(in.form, found)
	return subnetsAnswer{Subnets: part, Next: next}, err
}

func (s *subnet) fields(name string) ([]string, bool) {
	value, known := map[string]string{
		"subnet-id": s.ID, "vpc-id": s.VPC, "availability-zone": s.Zone, "cidr-block": s.CIDR, "state": "available",
		"default-for-az": strconv.FormatBool(s.zonesOf), "map-public-ip-on-launch": strconv.FormatBool(s.Public),
	}[name]
	return []string{value}, known
}

type vpcsAnswer struct {
	XMLName xml.Name  `xml:"answer"`
	VPCs    []vpcItem `xml:"vpcSet>item"`
	Next    string    `xml:"nextToken,omitempty"`
}

type vpcItem struct {
	ID      string      `xml:"vpcId"`
	State   string      `xml:"state"`
	CIDR    string      `xml:"cidrBlock"`
	Blocks  []blockItem `xml:"cidrBlockAssociationSet>item"`
	Default bool        `xml:"isDefault"`
}

type blockItem struct {
	CIDR  string `xml:"cidrBlock"`
	State string `xml:"cidrBlockState>state"`
}

func (r *Region) describeVpcs(in *request) (any, error) {
	ids := list(in.form, "VpcId")
	for _, id := range ids {
		if !slices.ContainsFunc(r.vpcs, func(v VPC) bool { return v.ID == id }) {
			return nil, call.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
		}
	}
	var found []vpcItem
	for _, v := range r.vpcs {
		ok, err := passes(in.form, nil, v.fields)
		switch {
		case err != nil:
			return nil, err
		case !ok, len(ids) > 0 && !slices.Contains(ids, v.ID):
			continue
		}
		found = append(found, vpcItem{
			ID: v.ID, State: "available", CIDR: v.CIDR, Blocks: []blockItem{{CIDR: v.CIDR, State: "associated"}},
			Default: v.Default,
		})
	}
	part, next, err := page(in.form, found)
	return vpcsAnswer{VPCs: part, Next: next}, err
}

func (v VPC) fields(name string) ([]string, bool) {
	value, known := map[string]string{
		"vpc-id": v.ID, "cidr": v.CIDR, "is-default": strconv.FormatBool(v.Default),
		"isDefault": strconv.FormatBool(v.Default), "state": "available",
	}[name]
	return []string{value}, known
}
