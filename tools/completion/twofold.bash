# bash completion for twofold

# The names of the VMs that have a control socket.
_twofold_vms() {
    local dir sock
    if [[ ${XDG_RUNTIME_DIR-} == /* ]]; then
        dir=$XDG_RUNTIME_DIR/twofold
    elif ((EUID == 0)); then
        dir=/run/twofold
    else
        dir=/tmp/twofold-$EUID
    fi
    for sock in "$dir"/*.sock; do
        [[ -S $sock ]] && basename "$sock" .sock
    done
}

# How many words before this one are neither options nor values of options: 0 is where the VM's
# name goes, then come an address, or a range and a mode.
_twofold_place() {
    local i count=0
    for ((i = 2; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in -* | =) continue ;; esac
        _twofold_takes_value "${COMP_WORDS[i - 1]}" || ((count += 1))
    done
    echo $count
}

# What the next word belongs to, as far as it is no name, address or range.
_twofold_takes_value() {
    case $1 in
    = | --cpu | --pid | --cr3 | --access | --range | --track | --interval | --timeout | --mappings | --faults) return 0 ;;
    esac
    return 1
}

_twofold_run() {
    local cur=$1 prev=$2
    case $prev in
    --console) mapfile -t COMPREPLY < <(compgen -W "stdio pty file:" -- "$cur") ;;
    --backing) mapfile -t COMPREPLY < <(compgen -W "anon thp memfd hugetlb-2m hugetlb-1g" -- "$cur") ;;
    --numa) mapfile -t COMPREPLY < <(compgen -W "local bind: interleave: preferred:" -- "$cur") ;;
    --paging) mapfile -t COMPREPLY < <(compgen -W "nested shadow" -- "$cur") ;;
    --populate) mapfile -t COMPREPLY < <(compgen -W "kernel lazy eager" -- "$cur") ;;
    --vfio) mapfile -t COMPREPLY < <(compgen -W "$(basename -a /sys/bus/pci/devices/* 2>/dev/null)" -- "$cur") ;;
    --append | --mem | --cpus | --name | --timeout | --fault-around) COMPREPLY=() ;;
    --disk) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    *)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "--initrd --append --mem --cpus --name --console
                --backing --paging --populate --fault-around --lock --numa --disk --rng --edu --iommu
                --vfio --timeout --trace --help" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
        fi
        ;;
    esac
}

_twofold() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} options="--json --help"
    local commands
    # bash splits --backing=th at the sign: three words.
    if [[ $cur == = ]]; then
        cur=
    elif [[ $prev == = ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    # `twofold --help` is the one list of commands.
    commands=$(twofold --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        mapfile -t COMPREPLY < <(compgen -W "$commands help --help --version" -- "$cur")
        return
    fi
    case ${COMP_WORDS[1]} in
    lab)
        case $prev in
        --npt) mapfile -t COMPREPLY < <(compgen -W "on off" -- "$cur") ;;
        --in | --domain | --appliance) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        *)
            [[ $cur != -* ]] || mapfile -t COMPREPLY < <(compgen -W "--ept --npt --cpus --mem --in
                --out --timeout --append --domain --appliance --keep --help" -- "$cur")
            ;;
        esac
        ;;
    run) _twofold_run "$cur" "$prev" ;;
    measure)
        case $prev in
        --cpu | --limit) COMPREPLY=() ;;
        -o | --output | --json | --kernel) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        *)
            mapfile -t COMPREPLY < <(compgen -W "--quick --full --output --json --kernel --cpu --limit
                --quiet --help" -- "$cur")
            ;;
        esac
        ;;
    compare)
        if [[ $cur == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        else
            mapfile -t COMPREPLY < <(compgen -f -X '!*.json' -- "$cur" && compgen -d -- "$cur")
        fi
        ;;
    help) mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur") ;;
    walk | map)
        options+=" --cpu --pid --cr3"
        if [[ ${COMP_WORDS[1]} == walk ]]; then
            options+=" --access --user --supervisor --svg --watch"
        else
            options+=" --gva --gpa --range --ad"
        fi
        if [[ $prev == --access ]]; then
            options="r w x"
        elif [[ $prev == --svg ]]; then
            mapfile -t COMPREPLY < <(compgen -f -- "$cur")
            return
        elif _twofold_takes_value "$prev" || [[ $prev == --watch ]]; then
            [[ $cur == -* ]] || options=
        elif [[ $cur != -* ]]; then
            case ${COMP_WORDS[1]}$(_twofold_place) in
            walk0 | map0) options=$(_twofold_vms) ;;
            walk1) options="rip rsp cr2" ;;
            *) options= ;;
            esac
        fi
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        ;;
    stat | iommu | pause | resume | guard | migrate-pages | top | stop | console)
        [[ ${COMP_WORDS[1]} == stat ]] && options+=" --pages --track --interval --range"
        [[ ${COMP_WORDS[1]} == iommu ]] && options+=" --mappings --faults"
        [[ ${COMP_WORDS[1]} == migrate-pages ]] && options+=" --gpa --hold"
        [[ ${COMP_WORDS[1]} == top ]] && options="--once --interval --help"
        [[ ${COMP_WORDS[1]} == stop ]] && options+=" --force --timeout"
        if [[ $prev == --track ]]; then
            options="accessed dirty accessed,dirty off"
        elif _twofold_takes_value "$prev"; then
            [[ $cur == -* ]] || options=
        elif [[ $cur != -* ]]; then
            case ${COMP_WORDS[1]}$(_twofold_place) in
            *0) options=$(_twofold_vms) ;;
            guard2) options="off nodump access" ;;
            *) options= ;;
            esac
        fi
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        ;;
    *) [[ $cur != -* ]] || mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur") ;;
    esac
}

complete -o filenames -o bashdefault -F _twofold twofold
