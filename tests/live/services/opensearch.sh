# shellcheck shell=bash
# OpenSearch for Argilla, with the k-NN plugin its indices ask for: one node inside a small runner, from Maven.
# Every jar is checked against pins/opensearch.sha256. The runner takes no HTTP port above 9299.

opensearch_wants() {
    tool java default-jre-headless
    installed opensearch-2.19.1 || tool mvn maven
}

opensearch_make() {
    # Called through `three`. A file that is not the pinned one is not asked for again from Maven's local folder.
    opensearch_get() {
        rm -rf lib knn
        nice mvn --batch-mode --quiet --color never --file "$here/opensearch.pom.xml" -Dmaven.repo.local="$scratch/repo" \
            org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$PWD/lib" &&
            python3 -m zipfile -e lib/opensearch-knn-2.19.1.0.zip knn &&
            mv -n knn/*.jar lib/ &&
            rm -r knn lib/*.zip &&
            (cd lib && sha256sum --check --quiet --strict "$pins/opensearch.sha256") || {
            rm -rf "$scratch/repo"
            return 1
        }
    }
    three opensearch_get
    [ "$(find lib -type f | wc -l)" = "$(wc -l <"$pins/opensearch.sha256")" ] || {
        echo 'Maven brought files that pins/opensearch.sha256 does not name'
        return 1
    }
}

opensearch_install() { place opensearch-2.19.1 opensearch_make; }

opensearch_launch() {
    launch TERM java -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$cache/opensearch-2.19.1/lib/*" \
        org.codelibs.opensearch.runner.OpenSearchRunner -basePath "$run/opensearch" -numOfNode 1 \
        -baseHttpPort "$(($1 - 1))" -clusterName "$opensearch_cluster" \
        -pluginTypes org.opensearch.knn.plugin.KNNPlugin
}

opensearch_answers() { http / | grep -q "\"$opensearch_cluster\""; }

opensearch_start() {
    local conf="$run/opensearch/node_1/config"
    opensearch_cluster=live-$(secret)
    mkdir -p "$conf"
    # Loopback only; no search for other nodes; and a disk that is nearly full must not make indices read-only.
    cat >"$conf/opensearch.yml" <<-END
	network.host: 127.0.0.1
	discovery.type: single-node
	cluster.routing.allocation.disk.threshold_enabled: false
	END
    serve 7000 9200
    give LIVE_OPENSEARCH_URL "http://127.0.0.1:$PORT"
    ready "127.0.0.1:$PORT"
}
