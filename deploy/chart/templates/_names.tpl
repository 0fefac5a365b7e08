{{- define "qscaler.name" -}}
{{- default .Release.Name .Values.fullnameOverride | trunc 56 | trimSuffix "-" -}}
{{- end }}

{{- define "qscaler.account" -}}
{{- default (include "qscaler.name" .) .Values.serviceAccount.name -}}
{{- end }}

{{- define "qscaler.workerAccount" -}}
{{- default (printf "%s-worker" (include "qscaler.account" .)) .Values.worker.serviceAccount.name -}}
{{- end }}

{{- define "qscaler.selector" -}}
app.kubernetes.io/name: qscaler
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "qscaler.labels" -}}
{{ include "qscaler.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end }}

{{- define "qscaler.subject" -}}
- kind: ServiceAccount
  name: {{ include "qscaler.account" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
