{{/* Labels that everything of ours bears. */}}
{{- define "platform.labels" -}}
app.kubernetes.io/part-of: mlplatform
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "platform.image" -}}
{{ .root.Values.images.registry }}{{ .name }}:{{ .root.Values.images.tag }}
{{- end }}

{{- define "platform.s3Endpoint" -}}
{{ .Values.s3.endpoint | default "http://minio.minio.svc.cluster.local:9000" }}
{{- end }}

{{- define "platform.postgresqlHost" -}}
{{ .Values.postgresql.host | default "platform-db-rw.databases.svc.cluster.local" }}
{{- end }}

{{/* Of pods that run our Airflow image, and of their containers. */}}
{{- define "platform.podSecurity" -}}
{runAsNonRoot: true, runAsUser: 50000, runAsGroup: 0, seccompProfile: {type: RuntimeDefault}}
{{- end }}

{{- define "platform.containerSecurity" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}
