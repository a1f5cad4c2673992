# The appliance: Linux, an initramfs whose init is twofold, a bootable ISO. All of it in
# $(BUILD)/appliance, where `twofold lab` of this build looks for it. No root is needed.
#   KERNEL_DEB=FILE   a kernel package of one's own choice

APPLIANCE        := $(BUILD)/appliance
APPLIANCE_KERNEL := $(APPLIANCE)/kernel/release
APPLIANCE_LAB    := lab-domain.xml lab-bochsrc iso
APPLIANCE_FILES  := vmlinux vmlinuz vmlinuz-flat initramfs.cpio hardware.cpio twofold.iso $(APPLIANCE_LAB)
KERNEL_DEB       ?=

$(APPLIANCE_KERNEL): tools/appliance/kernel tools/appliance/extract-vmlinux tools/appliance/modules
	@echo "  KERNEL  $(APPLIANCE)"
	$(Q)tools/appliance/kernel $(APPLIANCE)/kernel $(KERNEL_DEB)

$(APPLIANCE)/vmlinux $(APPLIANCE)/vmlinuz: $(APPLIANCE)/%: $(APPLIANCE_KERNEL)
	$(Q)ln -f $(APPLIANCE)/kernel/$* $@

$(APPLIANCE)/vmlinuz-flat: $(APPLIANCE)/vmlinuz $(APPLIANCE)/vmlinux tools/appliance/flat-kernel tools/appliance/flat.S
	@echo "  FLAT    $@"
	$(Q)tools/appliance/flat-kernel $(APPLIANCE)/vmlinuz $(APPLIANCE)/vmlinux $@

$(APPLIANCE)/initramfs.cpio: $(BUILD)/twofold $(BUILD)/guest.elf $(APPLIANCE_KERNEL) tools/appliance/initramfs
	@echo "  CPIO    $@"
	$(Q)tools/appliance/initramfs --kernel $(APPLIANCE)/kernel --twofold $(BUILD)/twofold \
	  --guest $(BUILD)/guest.elf $(APPLIANCE)

# Made together with it.
$(APPLIANCE)/hardware.cpio: $(APPLIANCE)/initramfs.cpio ;

$(APPLIANCE)/twofold.iso: $(APPLIANCE)/vmlinuz $(APPLIANCE)/initramfs.cpio $(APPLIANCE)/hardware.cpio \
		tools/appliance/iso tools/appliance/grub.cfg
	@echo "  ISO     $@"
	$(Q)tools/appliance/iso --config tools/appliance/grub.cfg --out $@ \
	  $(APPLIANCE)/vmlinuz $(APPLIANCE)/initramfs.cpio $(APPLIANCE)/hardware.cpio

$(APPLIANCE_LAB:%=$(APPLIANCE)/%): $(APPLIANCE)/%: tools/appliance/%
	@mkdir -p $(@D)
	$(Q)cp $< $@

.PHONY: appliance lab install-appliance
appliance: $(APPLIANCE_FILES:%=$(APPLIANCE)/%) ## the appliance: kernel, initramfs, ISO, in BUILD/appliance

lab: ## a prompt in the lab: the appliance in an emulated machine
	$(Q)scripts/deps build lab
	$(Q)$(MAKE) --no-print-directory all appliance
	$(Q)$(BUILD)/twofold lab

install-appliance: appliance ## put the appliance into PREFIX/share/twofold, too
	install -d $(DESTDIR)$(PREFIX)/share/twofold
	install -m 644 $(APPLIANCE_FILES:%=$(APPLIANCE)/%) $(DESTDIR)$(PREFIX)/share/twofold
	chmod 755 $(DESTDIR)$(PREFIX)/share/twofold/iso
