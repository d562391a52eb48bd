# Machine images. README.md beside this file describes them.

IMAGE       ?= primes
ARCH        ?= amd64
AMI_DIRTY    = $(shell git diff --quiet HEAD 2>/dev/null || echo -dirty)
AMI_REVISION = $(shell git rev-parse HEAD 2>/dev/null || echo unknown)$(AMI_DIRTY)
AMI_VERSION ?= $(shell git log -1 --date=format:%Y%m%d --format=%cd-%h 2>/dev/null || date -u +%Y%m%d)$(AMI_DIRTY)

AMI_DIR     := deploy/ami
AMI_IMAGE    = $(AMI_DIR)/images/$(IMAGE)
AMI_STAGE    = $(BIN)/ami/$(ARCH)/$(IMAGE)
AMI_PROGRAM  = $(shell sed -n 's/^PROGRAM=\([^ ]*\).*/\1/p' $(AMI_IMAGE)/image.env 2>/dev/null)

PACKER_VERSION := v1.16.0
PACKER_PLUGINS := amazon@v1.8.2 qemu@v1.0.9
PACKER_TOOL    := $(BIN)/tools/packer

.PHONY: ami-stage
ami-stage: # what provision.sh needs: the image's directory, with the program built for ARCH
	@[[ -f $(AMI_IMAGE)/image.env ]] || \
	  { echo 'no image "$(IMAGE)": there are $(notdir $(wildcard $(AMI_DIR)/images/*))' >&2; exit 1; }
	@rm -rf $(AMI_STAGE) && mkdir -p $(AMI_STAGE) && cp -R $(AMI_IMAGE)/. $(AMI_STAGE)/
	@if [[ -d services/$(AMI_PROGRAM) ]]; then \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) \
	  go build -trimpath -ldflags="-s -w" -o $(AMI_STAGE)/$(AMI_PROGRAM) ./services/$(AMI_PROGRAM); fi

.PHONY: ami-tool
ami-tool:
	@mkdir -p $(BIN)
	@CGO_ENABLED=0 go build -trimpath -o $(BIN)/amibuild ./integration/ami/amibuild

.PHONY: ami
ami: ami-stage ami-tool ## Make an AMI: IMAGE=primes [AWS_REGION=eu-west-1] [ARCH=arm64] [AMI_VERSION=1]
	@$(BIN)/amibuild build --image='$(IMAGE)' --arch='$(ARCH)' --stage=$(AMI_STAGE) --image-version='$(AMI_VERSION)' \
	  --revision=$(AMI_REVISION) --recipe=$(AMI_DIR) --tools=$(BIN)/tools

.PHONY: ami-validate
ami-validate: ami-tool ## Check the templates and scripts of machine images (Packer)
	@$(BIN)/amibuild validate --recipe=$(AMI_DIR) --tools=$(BIN)/tools
	@if command -v shellcheck >/dev/null; then \
	  shellcheck $(AMI_DIR)/*.sh $(AMI_DIR)/images/*/*.sh integration/ami/*.sh; \
	  else echo "shellcheck is not installed; scripts are not checked"; fi

.PHONY: ami-test
ami-test: ami-stage ## Make an image, boot it in QEMU, and see it work: IMAGE=primes (root, mmdebstrap, QEMU)
	@[[ $(ARCH) == amd64 ]] || { echo "ARCH is $(ARCH): the boot test runs for amd64" >&2; exit 1; }
	integration/ami/disk.sh $(AMI_DIR) $(AMI_STAGE) $(BIN)/ami/test/$(IMAGE)
	CLOUDMASTER_AMI=$(IMAGE) CLOUDMASTER_AMI_DIR=$(BIN)/ami/test/$(IMAGE) \
	  go test -v -count=1 -timeout 30m ./integration/ami

.PHONY: packer-tool
packer-tool: $(PACKER_TOOL) ## Build Packer from source into bin/tools, for hosts that have none

# "go install" would not do: it refuses modules whose go.mod has replace directives.
$(PACKER_TOOL):
	@work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; mkdir -p $(BIN)/tools; \
	build() { \
	  dir=$$(cd "$$work" && go mod download -json "github.com/hashicorp/$$1" | sed -n 's/^\t"Dir": "\(.*\)",$$/\1/p'); \
	  mkdir "$$work/src" && cp -R "$$dir/." "$$work/src/" && chmod -R u+w "$$work/src" && \
	  (cd "$$work/src" && GOWORK=off GOFLAGS=-mod=mod go build -trimpath -ldflags="-s -w" -o "$$2" .) && \
	  rm -rf "$$work/src"; }; \
	echo "building packer $(PACKER_VERSION); this takes minutes"; build packer@$(PACKER_VERSION) "$$work/packer"; \
	for p in $(PACKER_PLUGINS); do \
	  name=packer-plugin-$${p%@*}; echo "building $$name"; build "$$name@$${p#*@}" "$$work/$$name"; \
	  CHECKPOINT_DISABLE=1 PACKER_PLUGIN_PATH=$(BIN)/tools/packer-plugins "$$work/packer" \
	    plugins install --path "$$work/$$name" "github.com/hashicorp/$${p%@*}"; \
	done; mv "$$work/packer" $@
