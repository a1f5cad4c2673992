# The tiny guest: the kernel, its user programs (a tar archive that is linked into the
# kernel, and may also be given as an initrd), all into $(BUILD)/guest.elf.

all: $(BUILD)/guest.elf

GUEST_DIR   := $(BUILD)/guest
GUEST_WARN  := $(WARN)
GUEST_CPP   := -I. -I$(GUEST_DIR) -MMD -MP
GUEST_FREE  := $(CSTD) -O2 -g -ffreestanding -fno-pic -fno-stack-protector -U_FORTIFY_SOURCE \
	       -fno-asynchronous-unwind-tables -fcf-protection=none -fno-strict-aliasing \
	       -ffunction-sections -fdata-sections
# Ring 0 may be interpreted, by something that knows neither SSE nor POPCNT.
GUEST_KCFLAGS := $(GUEST_FREE) $(GUEST_WARN) -mgeneral-regs-only -mno-red-zone -mcmodel=kernel \
		 -fno-omit-frame-pointer -fno-optimize-sibling-calls
GUEST_LD     := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack

# --- user programs --------------------------------------------------------------

GUEST_ULIB_SRC := $(wildcard guest/user/lib/*.c guest/user/lib/*.S)
GUEST_PROG_SRC := $(wildcard guest/user/*.c)
GUEST_ULIB_OBJ := $(patsubst %,$(GUEST_DIR)/obj/%.o,$(basename $(GUEST_ULIB_SRC)))
GUEST_PROG_OBJ := $(GUEST_PROG_SRC:%.c=$(GUEST_DIR)/obj/%.o)
GUEST_PROGS    := $(GUEST_PROG_SRC:guest/user/%.c=$(GUEST_DIR)/bin/%)
GUEST_ULD      := guest/user/lib/user.ld

$(GUEST_DIR)/obj/guest/user/%.o: guest/user/%.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(GUEST_CPP) $(GUEST_FREE) $(GUEST_WARN) -c -o $@ $<

$(GUEST_DIR)/obj/guest/user/%.o: guest/user/%.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	$(Q)$(CC) $(GUEST_CPP) -g -c -o $@ $<

$(GUEST_DIR)/bin/%: $(GUEST_DIR)/obj/guest/user/%.o $(GUEST_ULIB_OBJ) $(GUEST_ULD)
	@mkdir -p $(@D)
	@echo "  LD      $@"
	$(Q)$(CC) $(GUEST_LD) -Wl,--gc-sections -Wl,-T,$(GUEST_ULD) -o $@.debug $< $(GUEST_ULIB_OBJ)
	$(Q)objcopy --strip-all $@.debug $@

# Without dates or owners, so that equal programs give an equal archive.
$(GUEST_DIR)/programs.list: LIST = $(GUEST_PROGS)
$(GUEST_DIR)/initrd.tar: $(GUEST_PROGS) guest/mkinitrd $(GUEST_DIR)/programs.list
	@echo "  TAR     $@"
	$(Q)guest/mkinitrd $@ $(sort $(GUEST_PROGS))

# --- kernel ---------------------------------------------------------------------

GUEST_KSRC := $(wildcard guest/kernel/*.c)
GUEST_KASM := $(filter-out %.ld.S,$(wildcard guest/kernel/*.S))
GUEST_KOBJ := $(GUEST_KSRC:%.c=$(GUEST_DIR)/obj/%.o) $(GUEST_KASM:%.S=$(GUEST_DIR)/obj/%.o)
GUEST_KLD  := $(GUEST_DIR)/kernel.ld

$(GUEST_DIR)/obj/guest/kernel/%.o: guest/kernel/%.c
	@mkdir -p $(@D)
	@echo "  CC      $<"
	$(Q)$(CC) $(GUEST_CPP) $(GUEST_KCFLAGS) -c -o $@ $<

$(GUEST_DIR)/obj/guest/kernel/%.o: guest/kernel/%.S
	@mkdir -p $(@D)
	@echo "  AS      $<"
	$(Q)$(CC) $(GUEST_CPP) -g -DINITRD_TAR='"$(GUEST_DIR)/initrd.tar"' -c -o $@ $<

$(GUEST_DIR)/obj/guest/kernel/initrd_builtin.o: $(GUEST_DIR)/initrd.tar

$(GUEST_KLD): guest/kernel/kernel.ld.S guest/kernel/layout.h
	@mkdir -p $(@D)
	$(Q)$(CC) -E -P -I. -x assembler-with-cpp -o $@ $<

GUEST_KLINK = $(CC) $(GUEST_LD) -Wl,-T,$(GUEST_KLD) -Wl,-z,max-page-size=4096 \
	      -Wl,--no-warn-rwx-segments

# Two links: the second adds the symbol table that the first one's nm gives. The table
# is the last of rodata, so no address changes; that is checked.
$(GUEST_DIR)/kernel.list: LIST = $(GUEST_KOBJ)
$(BUILD)/guest.elf: $(GUEST_KOBJ) $(GUEST_KLD) guest/kernel/ksyms.awk $(GUEST_DIR)/kernel.list
	@echo "  LD      $@"
	$(Q)awk -f guest/kernel/ksyms.awk /dev/null >$(GUEST_DIR)/ksyms0.S
	$(Q)$(CC) -c -o $(GUEST_DIR)/ksyms0.o $(GUEST_DIR)/ksyms0.S
	$(Q)$(GUEST_KLINK) -o $(GUEST_DIR)/kernel0.elf $(GUEST_KOBJ) $(GUEST_DIR)/ksyms0.o
	$(Q)nm -n $(GUEST_DIR)/kernel0.elf | awk -f guest/kernel/ksyms.awk >$(GUEST_DIR)/ksyms.S
	$(Q)$(CC) -c -o $(GUEST_DIR)/ksyms.o $(GUEST_DIR)/ksyms.S
	$(Q)$(GUEST_KLINK) -o $@ $(GUEST_KOBJ) $(GUEST_DIR)/ksyms.o
	$(Q)nm -n $@ | awk -f guest/kernel/ksyms.awk | cmp - $(GUEST_DIR)/ksyms.S

# Make would delete these as intermediate files.
.SECONDARY: $(GUEST_PROG_OBJ) $(GUEST_ULIB_OBJ)

-include $(GUEST_KOBJ:.o=.d) $(GUEST_ULIB_OBJ:.o=.d) $(GUEST_PROG_OBJ:.o=.d)

# For an editor to find them, and for the checks.
COMPDB_GUEST = $(GUEST_KSRC) $(GUEST_PROG_SRC) $(filter %.c,$(GUEST_ULIB_SRC))
