# Test kernels: each NAME.S makes NAME.elf; a name that ends in 64 is an ELF64 file (its code
# starts in 32-bit mode all the same), the others are ELF32. multiboot_flat is also taken out
# of its ELF file, so that only the multiboot header says where it loads.

KERNEL_SRC   := $(wildcard tests/kernels/*.S)
KERNEL_ELF   := $(KERNEL_SRC:tests/kernels/%.S=$(BUILD)/tests/kernels/%.elf)
TEST_KERNELS := $(KERNEL_ELF) $(BUILD)/tests/kernels/multiboot_flat.bin \
		$(BUILD)/tests/kernels/module.txt
KERNEL_FLAGS := -nostdlib -static -fno-pie -no-pie -Wl,--build-id=none \
		-Wl,-z,max-page-size=0x1000 -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -I.

$(BUILD)/tests/kernels/%.elf: tests/kernels/%.S tests/kernels/kernel.ld \
			      $(wildcard tests/kernels/*.inc) guest/abi.h
	@mkdir -p $(@D)
	@echo "  KERNEL  $@"
	$(Q)$(CC) -m$(if $(filter %64,$*),64,32) $(KERNEL_FLAGS) \
		-Wl,-m,$(if $(filter %64,$*),elf_x86_64,elf_i386) \
		-Wl,-T,tests/kernels/kernel.ld -o $@ $<

$(BUILD)/tests/kernels/%.bin: $(BUILD)/tests/kernels/%.elf
	@echo "  OBJCOPY $@"
	$(Q)objcopy -O binary $< $@

# What the kernels that take an initrd expect in it.
$(BUILD)/tests/kernels/module.txt: tests/kernels/kernels.mk
	@mkdir -p $(@D)
	$(Q)printf 'twofold test module\n' >$@
