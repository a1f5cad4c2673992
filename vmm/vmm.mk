# The monitor: the DSDT is compiled into a header.

GENERATED += $(BUILD)/gen/dsdt.h

$(BUILD)/gen/dsdt.h: vmm/dsdt.asl
	@mkdir -p $(@D)
	@echo "  IASL    $<"
	$(Q)iasl -we -vs -tc -p $(BUILD)/gen/dsdt $< >$(BUILD)/gen/iasl.log 2>&1 \
		|| { cat $(BUILD)/gen/iasl.log >&2; exit 1; }
	$(Q)mv $(BUILD)/gen/dsdt.hex $@
