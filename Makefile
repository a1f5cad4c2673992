# twofold: one Makefile for all of it. `make help` lists what a person may want.
#
# Each folder with rules of its own has a fragment (guest/guest.mk, ...) that
# is included here; nothing calls make recursively for a part of the tree.
#
# A build is three settings:
#   TYPE   release (default), debug, sanitize
#   BUILD  where its output goes; each type has a folder of its own
#   V=1    prints the commands

TYPE  ?= release
BUILD ?= $(if $(filter release,$(TYPE)),build,build-$(TYPE))
V     ?= 0
Q     := $(if $(filter 0,$(V)),@,)

PREFIX  ?= /usr/local
DESTDIR ?=

CC     ?= gcc
CSTD   := -std=gnu11
WARN   := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	  -Wpointer-arith -Wundef -Wvla -Wwrite-strings
CFLAGS_release  := -O2 -g -D_FORTIFY_SOURCE=2 -fstack-protector-strong
CFLAGS_debug    := -O0 -g3 -DTWOFOLD_DEBUG
CFLAGS_sanitize := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined \
		   -fno-omit-frame-pointer
LDFLAGS_sanitize := -fsanitize=address,undefined

ifeq ($(CFLAGS_$(TYPE)),)
$(error TYPE=$(TYPE) is not a build type: use release, debug or sanitize)
endif

VERSION  := 0.1
CPPFLAGS += -D_GNU_SOURCE -I. -I$(BUILD)/gen -DTWOFOLD_VERSION='"$(VERSION)"'
CFLAGS   += $(CSTD) $(WARN) $(CFLAGS_$(TYPE)) -pthread
LDFLAGS  += $(LDFLAGS_$(TYPE)) -pthread
# Static where a command other than `run` needs it: a VM's start must not pay for loading it.
LDLIBS   += -ljansson -lelf -lZydis -Wl,-Bstatic -lncursesw -ltinfo -l:liburing.a -Wl,-Bdynamic -ldl

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

LIB      := $(BUILD)/libtwofold.a
LIB_SRC  := $(wildcard ept/*.c iommu/*.c vmm/*.c)
TOOL_SRC := $(wildcard tools/*.c)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
TOOL_OBJ := $(TOOL_SRC:%.c=$(BUILD)/obj/%.o)
GENERATED :=

.PHONY: all
all: $(BUILD)/twofold

-include vmm/vmm.mk
-include guest/guest.mk
-include tools/tools.mk
-include tools/appliance/appliance.mk
-include tests/tests.mk

# --- compile and link -------------------------------------------------------

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# Headers that a rule makes have to be there before the first compilation.
$(LIB_OBJ) $(TOOL_OBJ): | $(GENERATED)

$(LIB): $(LIB_OBJ) $(BUILD)/objects.list
	@echo "  AR      $@"
	$(Q)rm -f $@ && $(AR) rcs $@ $(LIB_OBJ)

$(BUILD)/twofold: $(TOOL_OBJ) $(LIB) $(BUILD)/objects.list
	@echo "  LD      $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $(TOOL_OBJ) $(LIB) $(LDLIBS)

# A .list file changes when a source file comes or goes: what was linked of it is then stale.
$(BUILD)/objects.list: LIST = $(LIB_OBJ) $(TOOL_OBJ)
%.list: FORCE
	@mkdir -p $(@D)
	@echo '$(LIST)' | cmp -s - $@ || echo '$(LIST)' >$@

.PHONY: FORCE
FORCE:

-include $(LIB_OBJ:.o=.d) $(TOOL_OBJ:.o=.d)

# --- for editors --------------------------------------------------------------

COMPDB_SRC = $(LIB_SRC) $(TOOL_SRC) $(TEST_SRC)

compile_commands.json: Makefile $(COMPDB_SRC)
	$(Q){ printf '['; sep=; for f in $(COMPDB_SRC); do \
	  printf '%s\n{"directory":"%s","file":"%s","command":"%s -c %s"}' \
	    "$$sep" "$(CURDIR)" "$$f" \
	    "$(CC) $(subst ",\\\",$(subst ',,$(CPPFLAGS))) $(CFLAGS)" "$$f"; sep=,; \
	done; printf '\n]\n'; } > $@

all: compile_commands.json

# --- what a person types --------------------------------------------------------

.PHONY: deps debug sanitize clean help

deps: ## install missing Debian packages (all of them: build, check, lab)
	$(Q)scripts/deps build check lab

debug: ## the debug build, in build-debug/
	$(Q)$(MAKE) --no-print-directory TYPE=debug all

sanitize: ## the ASan and UBSan build, in build-sanitize/
	$(Q)$(MAKE) --no-print-directory TYPE=sanitize all

clean: ## remove all build folders
	rm -rf build build-debug build-sanitize compile_commands.json

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
