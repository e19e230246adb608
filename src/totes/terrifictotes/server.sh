# Runs one PostgreSQL server as long as standard input stays open, and stops it when a line or the end of input
# arrives. The end of input comes however the Python process died, so that no server is left running.
#
# server.sh FOLDER BINARIES SIGNAL keep|remove [postgres's own arguments…]
folder=$1 binaries=$2 signal=$3 afterwards=$4
shift 4
exec 3<&0 </dev/null

if [ ! -e "$folder/data/PG_VERSION" ]; then
    "$binaries/initdb" --pgdata "$folder/data" --username postgres --pwfile "$folder/password" \
        --auth scram-sha-256 --encoding UTF8 --locale C --locale-provider builtin --builtin-locale C.UTF-8 \
        --no-data-checksums --no-sync --no-instructions >/dev/null || exit 1
fi

"$binaries/postgres" -D "$folder/data" "$@" 3<&- &
server=$!
{
    read -r _ <&3
    : >"$folder/stopping"
    # Repeatedly, since a signal is lost if it comes before the server handles it.
    while kill -s "$signal" "$server" 2>/dev/null; do sleep 0.1; done
} &
guard=$!
wait "$server"
status=$?
kill "$guard" 2>/dev/null
if [ -e "$folder/stopping" ]; then
    rm -f "$folder/stopping"
    if [ "$afterwards" = remove ]; then rm -rf "$folder"; fi
fi
exit "$status"
