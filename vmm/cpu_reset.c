/* How a CPU starts: Intel SDM vol. 3A, 9.1.1 "Processor State After Reset". */
#include "vmm/cpu_event_impl.h"

#define SIGNATURE 0x600u /* family 6, as EDX has it */

static struct kvm_segment reset_segment(uint8_t type, bool s)
{
    return (struct kvm_segment){ .limit = 0xffff, .type = type, .present = 1, .s = s };
}

void cpu_reset(struct cpu_state *s)
{
    *s = (struct cpu_state){
        .rip = 0xfff0,
        .rflags = 2,
        .cr0 = 0x60000010,
        .xcr0 = 1,
        .gdt.limit = 0xffff,
        .idt.limit = 0xffff,
    };
    s->gpr[CPU_RDX] = SIGNATURE;
    s->dr[6] = 0xffff0ff0;
    s->dr[7] = 0x400;
    for (unsigned i = 0; i < CPU_SEGS; i++)
        s->seg[i] = reset_segment(TYPE_WRITABLE | TYPE_ACCESSED, true);
    s->seg[CPU_CS].selector = 0xf000;
    s->seg[CPU_CS].base = 0xffff0000;
    s->ldt = reset_segment(SYS_LDT, false);
    s->tr = reset_segment(SYS_TSS32 | SYS_BUSY, false);
}

void cpu_startup(struct cpu_state *s, uint8_t vector)
{
    cpu_reset(s);
    s->seg[CPU_CS].selector = (uint16_t)(vector << 8);
    s->seg[CPU_CS].base = (uint64_t)vector << 12;
    s->rip = 0;
}
