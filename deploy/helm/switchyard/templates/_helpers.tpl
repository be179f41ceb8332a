{{- define "switchyard.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}
{{- define "switchyard.gitImage" -}}
{{ .Values.image.gitRepository }}:{{ .Values.image.tag }}
{{- end }}
