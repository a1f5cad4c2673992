#include "vmm/vm_impl.h"

void trace_exit(struct vcpu *cpu, const struct exit_record *rec)
{
    fprintf(cpu->vm->cfg->trace, "%u %s %lx %lx\n", cpu->id, exit_name(rec->reason), rec->addr,
            rec->value);
}
