# Unit tests, fuzz targets, test kernels, benchmarks, and the targets that run them.

-include tests/kernels/kernels.mk
-include tests/guest/fixtures.mk

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/tests/unit/%)
TEST_SRC  = $(UNIT_SRC) tests/unit/image.c tests/unit/boot_fixture.c tests/unit/pages_fixture.c \
	    tests/unit/interp_fixture.c tests/unit/cpu_fixture.c tests/unit/shadow_fixture.c \
	    tests/unit/virtio_fixture.c tests/unit/pci_fixture.c tests/unit/edu_fixture.c \
	    tests/unit/host_fixture.c tests/unit/fake_libvirt.c \
	    $(wildcard tests/bench/*.c) $(wildcard tests/fuzz/*.c)

$(BUILD)/tests/unit/%: tests/unit/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  TEST    $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -MF $@.d -o $@ $(filter %.c,$^) $(LDFLAGS) $(LIB) -lcmocka $(LDLIBS)

# Made kernel files, for the tests of the loader.
$(BUILD)/tests/unit/test_boot $(BUILD)/tests/unit/test_boot_bad: \
	tests/unit/image.c tests/unit/boot_fixture.c $(wildcard tests/unit/*.h)

# RAM with its fault thread.
$(BUILD)/tests/unit/test_pages $(BUILD)/tests/unit/test_guard: \
	tests/unit/pages_fixture.c tests/unit/pages_fixture.h

# A small guest of the interpreter.
$(BUILD)/tests/unit/test_interp_modes $(BUILD)/tests/unit/test_interp_kinds: \
	tests/unit/interp_fixture.c tests/unit/interp_fixture.h

# A virtual CPU in flat memory.
$(BUILD)/tests/unit/test_cpu_event $(BUILD)/tests/unit/test_cpu_transfer \
$(BUILD)/tests/unit/test_cpu_segment: tests/unit/cpu_fixture.c tests/unit/cpu_fixture.h

# A PCI bus and a virtio driver.
$(BUILD)/tests/unit/test_virtio_pci $(BUILD)/tests/unit/test_virtio_blk \
$(BUILD)/tests/unit/test_virtio_iommu_device: \
	tests/unit/virtio_fixture.c tests/unit/virtio_fixture.h

# A PCI bus without a VM.
$(BUILD)/tests/unit/test_pci $(BUILD)/tests/unit/test_pci_msi $(BUILD)/tests/unit/test_vfio_irq: \
	tests/unit/pci_fixture.c tests/unit/pci_fixture.h

# A CPU that translates through shadow tables.
$(BUILD)/tests/unit/test_shadow $(BUILD)/tests/unit/test_shadow_pool \
$(BUILD)/tests/unit/test_shadow_storm: \
	tests/unit/shadow_fixture.c $(wildcard tests/unit/shadow_*.h)

$(BUILD)/tests/unit/test_lab: tools/lab_link.c tools/lab_cpio.c tools/lab_fill.c tools/appliance_option.c

$(BUILD)/tests/unit/test_walk_view: tools/walk_grid.c tools/walk_ink.c tools/walk_shadow.c \
	tools/walk_text.c tools/walk_svg.c tools/walk_command.c tools/parse.c

$(BUILD)/tests/unit/test_values: tools/parse.c tools/table.c

$(BUILD)/tests/unit/test_measure_stats: tools/measure_stats.c
# A machine's sysfs in a folder.
$(BUILD)/tests/unit/test_bind $(BUILD)/tests/unit/test_bind_libvirt $(BUILD)/tests/unit/test_host_use: \
	tests/unit/host_fixture.c tests/unit/host_fixture.h tests/unit/fake_libvirt.h \
	$(wildcard tools/bind*.c) tools/host_device.c tools/host_use.c tools/host_verdict.c tools/libvirt_load.c

$(BUILD)/tests/unit/test_iova_picture: tools/isolate_text.c tools/iova_layout.c tools/iova_svg.c \
	tools/iova_picture.c

$(BUILD)/tests/unit/test_isolate_vm: tools/isolate_text.c tools/isolate_guest.c tools/isolate_vm.c \
	tools/isolate_log.c

$(BUILD)/tests/unit/test_edu $(BUILD)/tests/unit/test_edu_iommu: \
	tests/unit/edu_fixture.c tests/unit/edu_fixture.h

# A library that says it is libvirt.
$(BUILD)/tests/unit/fake_libvirt.so: tests/unit/fake_libvirt.c tests/unit/fake_libvirt.h
	@mkdir -p $(@D)
	@echo "  TEST    $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -shared -fPIC -Wl,-soname,libvirt.so.0 -o $@ $< $(LDFLAGS)

$(BUILD)/tests/unit/test_bind_libvirt: | $(BUILD)/tests/unit/fake_libvirt.so

$(BUILD)/tests/unit/test_measure_plan: tools/measure_plan.c tools/table.c

$(BUILD)/tests/unit/test_measure_show: tools/measure_view.c tools/measure_text.c tools/measure_csv.c \
	tools/measure_html.c tools/measure_html_tables.c tools/measure_plot.c tools/measure_gnuplot.c \
	tools/measure_grid.c tools/measure_read.c tools/table.c

# The oracle that the guest runs against its MMU.
$(BUILD)/tests/unit/test_access_oracle: guest/kernel/access_oracle.c guest/kernel/access_plan.c

-include $(UNIT_BIN:%=%.d)

# A fuzz target is one file; the library is compiled once more, by clang with coverage.
FUZZ_SRC  := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN  := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/tests/fuzz/%)
FUZZ_OBJ  := $(LIB_SRC:%.c=$(BUILD)/fuzz-obj/%.o)
FUZZ_FLAGS := -O1 -g -fsanitize=address,undefined -fno-omit-frame-pointer

$(BUILD)/fuzz-obj/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	@echo "  FUZZ-CC $<"
	$(Q)clang $(CPPFLAGS) $(CSTD) -Wall $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -pthread \
		-MMD -MP -c -o $@ $<

$(BUILD)/tests/fuzz/%: tests/fuzz/%.c $(FUZZ_OBJ)
	@mkdir -p $(@D)
	@echo "  FUZZ    $@"
	$(Q)clang $(CPPFLAGS) $(CSTD) -Wall $(FUZZ_FLAGS) -fsanitize=fuzzer -pthread -o $@ $^ $(LDLIBS)

# Results of `twofold measure`, which are the tools' matter.
$(BUILD)/tests/fuzz/fuzz_measure: tools/measure_view.c tools/measure_read.c tools/measure_stats.c \
	tools/measure_compare.c tools/measure_text.c tools/measure_csv.c tools/measure_html.c \
	tools/measure_html_tables.c tools/measure_grid.c tools/measure_plot.c tools/measure_gnuplot.c \
	tools/table.c

# Kept: make takes them for intermediate files.
.SECONDARY: $(FUZZ_OBJ)

-include $(FUZZ_OBJ:.o=.d)

BENCH_SRC := $(wildcard tests/bench/*.c)
BENCH_BIN := $(if $(BENCH_SRC),$(BUILD)/tests/bench/bench)

$(BUILD)/tests/bench/bench: $(BENCH_SRC) tools/measure_stats.c $(wildcard tests/bench/*.h) $(LIB)
	@mkdir -p $(@D)
	@echo "  BENCH   $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -o $@ $(filter %.c,$^) $(LDFLAGS) $(LIB) $(LDLIBS) -lm

.PHONY: tests fuzzers check check-full check-build lint bench demo format fuzz
tests: $(UNIT_BIN) $(TEST_KERNELS)
fuzzers: $(FUZZ_BIN)

demo: ## install what is missing, build, and run the tiny guest
	$(Q)scripts/deps build
	$(Q)$(MAKE) --no-print-directory all
	$(Q)scripts/demo $(BUILD)

# What every suite of tests/run needs, in all builds.
check-build:
	$(Q)scripts/deps build check lab
	$(Q)$(MAKE) --no-print-directory all tests fuzzers appliance compile_commands.json
	$(Q)$(MAKE) --no-print-directory TYPE=sanitize BUILD=$(BUILD)-sanitize all tests

check: check-build ## install what is missing, build, and run all tests
	$(Q)tests/run --build $(BUILD)

check-full: check-build ## check, and what takes too long for every day
	$(Q)tests/run --build $(BUILD) --full

lint: compile_commands.json ## formatting, static analysis, headers, layering
	$(Q)scripts/deps build check
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/run --build $(BUILD) lint

format: ## reformat every C file
	$(Q)git ls-files '*.[ch]' | xargs clang-format -i

fuzz: ## fuzz for ten minutes a target (SECONDS=600)
	$(Q)scripts/deps build check
	$(Q)$(MAKE) --no-print-directory fuzzers
	$(Q)tests/fuzz/run --build $(BUILD) --seconds $(or $(SECONDS),600)

bench: ## measure what twofold costs against baselines (PART=... for some)
	$(Q)scripts/deps build check
	$(Q)$(MAKE) --no-print-directory all tests $(BUILD)/tests/bench/bench
	$(Q)$(BUILD)/tests/bench/bench --build $(BUILD) $(PART)
