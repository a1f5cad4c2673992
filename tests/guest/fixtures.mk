# The initrds that the guest tests boot with, and their disk.
GUEST_FIXTURES := $(addprefix $(BUILD)/tests/guest/,own.tar bare.tar bad.tar noise.tar cut.tar \
		    blank.tar size.tar disk.img)

tests: $(GUEST_FIXTURES)

$(GUEST_FIXTURES) &: tests/guest/fixtures $(GUEST_PROGS)
	@echo "  TAR     $(BUILD)/tests/guest"
	$(Q)tests/guest/fixtures $(GUEST_DIR)/bin $(BUILD)/tests/guest
