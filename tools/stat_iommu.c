#include "tools/stat_iommu.h"

#include <stdio.h>

static json_int_t number(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

void stat_print_iommu(const json_t *c)
{
    json_int_t looked;

    if (!c)
        return;
    looked = number(c, "hits") + number(c, "misses");
    (void)printf("\nIOMMU\n");
    (void)printf("  IOTLB     %" JSON_INTEGER_FORMAT " hits, %" JSON_INTEGER_FORMAT
                 " misses (%.1f %% hit), %" JSON_INTEGER_FORMAT " invalidated\n",
                 number(c, "hits"), number(c, "misses"),
                 looked ? 100.0 * (double)number(c, "hits") / (double)looked : 0.0,
                 number(c, "invalidations"));
    (void)printf("  tables    %" JSON_INTEGER_FORMAT "; leaves: %" JSON_INTEGER_FORMAT
                 " of 4K, %" JSON_INTEGER_FORMAT " of 2M, %" JSON_INTEGER_FORMAT " of 1G\n",
                 number(c, "tables"), number(c, "leaves_4k"), number(c, "leaves_2m"),
                 number(c, "leaves_1g"));
    (void)printf("  requests  %" JSON_INTEGER_FORMAT ", %" JSON_INTEGER_FORMAT
                 " refused; %" JSON_INTEGER_FORMAT " maps, %" JSON_INTEGER_FORMAT " unmaps\n",
                 number(c, "requests"), number(c, "refused_requests"), number(c, "maps"),
                 number(c, "unmaps"));
    (void)printf("  blocked   %" JSON_INTEGER_FORMAT
                 " accesses; the guest was told of %" JSON_INTEGER_FORMAT "\n",
                 number(c, "faults"), number(c, "events"));
}
