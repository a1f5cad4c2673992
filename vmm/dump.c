#include "vmm/vm_impl.h"

void dump_crash(struct vcpu *cpu, const char *what)
{
    fprintf(stderr, "crash %s\n", what);
    vm_end(cpu->vm, VM_END_CRASH, 0, what);
}
