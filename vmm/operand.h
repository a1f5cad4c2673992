/*
 * What one instruction is and which memory it touches, from its bytes and the registers before it;
 * decoded by Zydis. For naming what a stopped vCPU was about to do; nothing is executed, and
 * nothing depends on it.
 */
#ifndef TWOFOLD_VMM_OPERAND_H
#define TWOFOLD_VMM_OPERAND_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPERANDS_MAX    3
#define INSTRUCTION_MAX 15 /* bytes that the longest one has */

struct operand {
    uint64_t linear; /* address of its first byte, segment base included */
    unsigned size;   /* bytes, at least 1; of one round where an instruction repeats */
    bool write;      /* it is written (and perhaps read before) */
};

/*
 * Takes up to INSTRUCTION_MAX bytes at RIP, of any mode. Gives how many operands in memory the
 * instruction has, into out[]: those that are only read, then those that are written, the implied
 * ones (stack, strings) among them. *length is the instruction's, 0 when the bytes are none or are
 * cut off. Intel SDM volume 2, "Instruction Format". Not listed: gathers (vector registers aren't
 * known here), what a prefetch or INVLPG names, what an interrupt or a task switch pushes.
 */
size_t operand_list(const uint8_t *code, size_t len, const struct kvm_regs *regs,
                    const struct kvm_sregs *sregs, struct operand out[OPERANDS_MAX],
                    unsigned *length);

/*
 * The instruction in Intel's syntax, as "mov [rbx+0x10], rax", with targets of jumps as values of
 * RIP. Returns its length, 0 (and an empty text) when the bytes are none or are cut off.
 */
unsigned instruction_text(const uint8_t *code, size_t len, const struct kvm_regs *regs,
                          const struct kvm_sregs *sregs, char *text, size_t size);

#endif
