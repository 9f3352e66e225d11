<# : PediatricsGPT Web: starts a small server on this computer and opens the app. No installation.
@echo off
chcp 65001 >nul
powershell -NoProfile -ExecutionPolicy Bypass -Command "$stick='%~dp0'; Invoke-Expression ([IO.File]::ReadAllText('%~f0', [Text.Encoding]::UTF8))"
pause
exit /b
#>
# Windows PowerShell 5 or newer, part of Windows 10 and 11. Only this computer can reach the server.
$port = 4820
$app = [IO.Path]::GetFullPath((Join-Path $stick 'app'))
$headers = ConvertFrom-Json @'
%HEADERS%
'@
$types = ConvertFrom-Json @'
%TYPES%
'@
if (-not (Test-Path (Join-Path $app 'index.html'))) {
  Write-Host '找不到 app 文件夹：请把整个文件夹一起复制。 The folder app is missing: copy all of it.'
  return
}
$server = New-Object System.Net.HttpListener
$server.Prefixes.Add("http://localhost:$port/")
try { $server.Start() } catch {
  Write-Host "端口 $port 不能用。程序可能已经在运行：请打开 http://localhost:$port"
  Write-Host "Port $port cannot be used. It may be running already: open http://localhost:$port"
  return
}
Write-Host "请用 Chrome 或 Edge 打开 http://localhost:$port ，用完后关闭这个窗口。"
Write-Host "Open http://localhost:$port in Chrome or Edge; close this window to end."
Start-Process "http://localhost:$port/"
while ($server.IsListening) {
  $context = $server.GetContext()
  $response = $context.Response
  try {
    foreach ($header in $headers.PSObject.Properties) { $response.Headers[$header.Name] = $header.Value }
    $path = [Uri]::UnescapeDataString($context.Request.Url.AbsolutePath).TrimStart('/')
    if ($path -eq '') { $path = 'index.html' }
    $file = [IO.Path]::GetFullPath((Join-Path $app $path))
    $inside = $file.StartsWith($app + [IO.Path]::DirectorySeparatorChar)
    if ($inside -and (Test-Path -LiteralPath $file -PathType Leaf)) {
      $type = $types.([IO.Path]::GetExtension($file))
      if (-not $type) { $type = 'application/octet-stream' }
      $response.ContentType = $type
      $stream = [IO.File]::OpenRead($file)
      try {
        $response.ContentLength64 = $stream.Length
        if ($context.Request.HttpMethod -ne 'HEAD') { $stream.CopyTo($response.OutputStream) }
      } finally { $stream.Dispose() }
    } else { $response.StatusCode = 404 }
  } catch {
    # The browser went away in the middle: the next request counts.
  } finally { $response.Close() }
}
