# shellcheck shell=bash
# MinIO: the S3 store, with one bucket made.

minio_version=v0.0.0-20260212201848-7aac2a2c5b7c
minio_sum='h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA='

minio_wants() { installed "minio-$minio_version" || go_wants; }

minio_make() {
    CGO_ENABLED=0 go_install github.com/minio/minio "$minio_version" "$minio_sum"
    ./minio --version
}

minio_install() { place "minio-$minio_version" minio_make; }

minio_launch() {
    launch TERM env HOME="$run/minio" MINIO_ROOT_USER="$minio_user" MINIO_ROOT_PASSWORD="$minio_password" \
        MINIO_BROWSER=off MINIO_UPDATE=off \
        "$cache/minio-$minio_version/minio" server --address "127.0.0.1:$1" "$run/minio/data"
}

minio_answers() { http /minio/health/ready; }

minio_start() {
    minio_user=live-$(secret)
    minio_password=$(secret)
    mkdir -p "$run/minio/data"
    serve
    STEP='making the bucket'
    http /preannotate-live -X PUT --aws-sigv4 aws:amz:us-east-1:s3 -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' \
        --config - <<<"user = \"$minio_user:$minio_password\"" >>"$LOG"
    give AWS_ENDPOINT_URL "http://127.0.0.1:$PORT"
    give AWS_ACCESS_KEY_ID "$minio_user"
    give AWS_SECRET_ACCESS_KEY "$minio_password"
    give AWS_REGION us-east-1
    give AWS_ALLOW_HTTP true
    give LIVE_S3_BUCKET preannotate-live
    give LIVE_MINIO_BIN "$cache/minio-$minio_version/minio"
    give LIVE_MINIO_PID "$PID"
}
