package ec2

import (
	"encoding/xml"
	"maps"
	"regexp"
	"slices"

	"cloudmaster/integration/aws/call"
)

// Image is an AMI.
type Image struct {
	ID    string
	Name  string
	Owner string // number of an account, or the alias amazon; empty: the fake's account
	Arch  string // x86_64 or arm64; empty: x86_64
	State string // empty: available
	// Created is when it was made, as 2026-01-02T15:04:05.000Z.
	Created string
	Public  bool
	Tags    map[string]string
}

var imageForm = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)

type imagesAnswer struct {
	XMLName xml.Name    `xml:"answer"`
	Images  []imageItem `xml:"imagesSet>item"`
	Next    string      `xml:"nextToken,omitempty"`
}

type imageItem struct {
	ID      string `xml:"imageId"`
	State   string `xml:"imageState"`
	Owner   string `xml:"imageOwnerId"`
	Created string `xml:"creationDate"`
	Public  bool   `xml:"isPublic"`
	Arch    string `xml:"architecture"`
	Type    string `xml:"imageType"`
	Name    string `xml:"name"`
	Device  string `xml:"rootDeviceType"`
	Root    string `xml:"rootDeviceName"`
	Tags    []tag  `xml:"tagSet>item"`
}

// rootDevice is the name of the root device of all images.
const rootDevice = "/dev/xvda"

func (r *Region) describeImages(in *request) (any, error) {
	ids, owners := list(in.form, "ImageId"), list(in.form, "Owner")
	for _, id := range ids {
		if _, err := r.image(id); err != nil {
			return nil, err
		}
	}
	var found []imageItem
	for i := range r.images {
		img := &r.images[i]
		ok, err := passes(in.form, img.Tags, img.fields)
		switch {
		case err != nil:
			return nil, err
		case !ok, len(ids) > 0 && !slices.Contains(ids, img.ID), len(owners) > 0 && !img.ownedBy(r.account, owners):
			continue
		}
		found = append(found, imageItem{
			ID: img.ID, State: img.State, Owner: img.Owner, Created: img.Created, Public: img.Public, Arch: img.Arch,
			Type: "machine", Name: img.Name, Device: "ebs", Root: rootDevice, Tags: tagSet(img.Tags),
		})
	}
	part, next, err := page(in.form, found)
	return imagesAnswer{Images: part, Next: next}, err
}

func (i *Image) fields(name string) ([]string, bool) {
	value, known := map[string]string{
		"name": i.Name, "state": i.State, "architecture": i.Arch, "image-id": i.ID, "owner-id": i.Owner,
		"image-type": "machine", "root-device-type": "ebs", "virtualization-type": "hvm",
	}[name]
	return []string{value}, known
}

func (i *Image) ownedBy(account string, owners []string) bool {
	return slices.Contains(owners, i.Owner) || i.Owner == account && slices.Contains(owners, "self")
}

// image returns an image that instances can be made from.
func (r *Region) image(id string) (*Image, error) {
	if !imageForm.MatchString(id) {
		return nil, call.Errorf("InvalidAMIID.Malformed", "Invalid id: \"%s\" (expecting \"ami-...\")", id)
	}
	for i := range r.images {
		if r.images[i].ID == id {
			return &r.images[i], nil
		}
	}
	return nil, call.Errorf("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
}

// AddImage makes an image known. An image that is there already under this id is replaced.
func (r *Region) AddImage(img Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range []struct {
		field *string
		value string
	}{
		{&img.Owner, r.account},
		{&img.Arch, "x86_64"},
		{&img.State, "available"},
		{&img.Created, r.fake.opts.Now().UTC().Format("2006-01-02T15:04:05.000Z")},
	} {
		if *d.field == "" {
			*d.field = d.value
		}
	}
	img.Tags = maps.Clone(img.Tags)
	r.images = slices.DeleteFunc(r.images, func(old Image) bool { return old.ID == img.ID })
	r.images = append(r.images, img)
}

// RemoveImage deregisters an image.
func (r *Region) RemoveImage(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.images = slices.DeleteFunc(r.images, func(old Image) bool { return old.ID == id })
}
